"""The authorization endpoint: from a request over two pages to the way back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from authlib.oauth2 import OAuth2Error
from werkzeug.datastructures import Headers

from .faults import CHOICES, CallbackFault, Fault, RequestFault
from .pages import HEADERS, choose_page, consent_page, error_page
from .records import Call, Person
from .server import Message, Reply, Request, Server

#: Seconds that a visitor may take to decide.
TICKET_LIFE = 600


@dataclass(frozen=True)
class Pending:
    """An authorization request that waits for the visitor's decision."""

    grant: Any = field(repr=False)
    expires_at: float


class Consent:
    """Ask the visitor, and send them back with what the server decides.

    The ticket of a form is random, is known to this provider only, stands for one
    authorization request and is good for one decision: a form on another site
    cannot consent in the visitor's name (RFC 6749, section 10.12).
    """

    def __init__(
        self,
        server: Server,
        people: Sequence[Person],
        callback_fault: Callable[[], CallbackFault | None],
    ) -> None:
        self._server = server
        self._people = {person.login: person for person in people}
        self._callback_fault = callback_fault
        self._pending: dict[str, Pending] = {}
        self._faults: dict[str, RequestFault] = {}

    def ask(self, message: Message) -> Reply:
        """Answer an authorization request (RFC 6749, section 4.1.1) with a page.

        An unknown client or redirect URI gives an error page, never a redirect
        (section 4.1.2.1); what else is wrong is told to the client.
        """
        request = Request(message)
        try:
            grant = self._server.get_consent_grant(request)
        except OAuth2Error as error:
            if error.redirect_uri:
                return self._server.handle_error_response(request, error)  # type: ignore[no-any-return]
            return _page(error_page(f"{error.error}: {error.description}"), 400)
        now = self._server.clock()
        waiting = self._pending.items()
        self._pending = {t: p for t, p in waiting if now < p.expires_at}
        ticket = secrets.token_urlsafe()
        self._pending[ticket] = Pending(grant, now + TICKET_LIFE)
        return _page(choose_page(ticket, self._people.values()))

    def decide(self, form: Mapping[str, str]) -> Reply:
        """Answer one of the two forms: with the second page, or with the way back."""
        ticket = form.get("ticket", "")
        pending = self._pending.get(ticket)
        person = self._people.get(form.get("person", ""))
        if not pending or not person or self._server.clock() >= pending.expires_at:
            return _page(error_page("This form has expired or is not ours."), 400)
        decision = form.get("decision")
        if decision not in ("allow", "deny"):
            request = pending.grant.request
            client_id = request.client.client_id
            return _page(consent_page(ticket, person, client_id, request.scope.split()))
        del self._pending[ticket]
        user = person if decision == "allow" else None
        _, fault = CHOICES.get(form.get("fault", ""), ("", None))
        return self._send_back(pending.grant, user, fault)

    def fault_of(self, call: Call) -> RequestFault | None:
        """Use up the fault that was chosen on the page for this login's token."""
        return self._faults.pop(call.form.get("code", ""), None)

    def _send_back(self, grant: Any, user: Person | None, fault: Fault | None) -> Reply:
        reply: Reply = self._server.create_authorization_response(
            grant.request, grant_user=user, grant=grant
        )
        url = urlsplit(reply.headers["Location"])
        params = parse_qsl(url.query, keep_blank_values=True)
        if isinstance(fault, RequestFault):
            self._faults |= {value: fault for name, value in params if name == "code"}
            fault = None
        fault = fault or self._callback_fault()
        if fault:
            params = fault.params(params)
        location = url._replace(query=urlencode(params)).geturl()
        # 303, not Authlib's 302: a browser must not post the form again (RFC 9700,
        # section 4.12).
        return Reply(303, b"", Headers({**HEADERS, "Location": location}))


def _page(html: str, status: int = 200) -> Reply:
    return Reply(status, html.encode(), Headers(HEADERS))
