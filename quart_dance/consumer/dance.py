"""The dance itself: from the login to the stored token, without a framework.

The methods are coroutines, but only what a framework's blueprint implements
(`notify`, `post_form`, `session_with`, the storage) ever waits.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from werkzeug.sansio.response import Response as AnyResponse

from ..errors import (
    AccessDenied,
    AccountChanged,
    ConfigurationError,
    InvalidCallback,
    OAuthError,
    ReceiverError,
    StateMismatch,
    StorageError,
    TokenRequestError,
    UserRequiredError,
)
from ..oauth import oauth2
from ..oauth.answer import Answer, read_token
from ..oauth.attempt import (
    MAX_OPEN,
    Attempt,
    Seal,
    cookie_name,
    fingerprint,
    is_cookie_name,
)
from ..oauth.token import Token, is_expired
from ..oauth.urls import is_secure, next_path
from . import pages
from .consumer import Consumer
from .flight import can_refresh
from .signals import (
    oauth_authorized,
    oauth_before_login,
    oauth_error,
    oauth_login_failed,
)
from .storage.base import saved
from .visit import Cookie, Reply, Visit

_logger = logging.getLogger(__name__)


class OAuth2Dance(Consumer):
    """Login and callback of OAuth 2.0 (RFC 6749, section 4.1)."""

    @abstractmethod
    async def post_form(self, form: oauth2.Form) -> Answer:
        """Post a form to the provider."""

    @abstractmethod
    def session_with(self, token: Token) -> AbstractContextManager[Any]:
        """Let `session` carry a token that is not stored yet."""

    async def begin(self, visit: Visit) -> Reply:
        """Send the visitor to the provider.

        Raises:
            ConfigurationError: Something is not set up; the message says what.
        """
        try:
            account = await saved(self.async_storage.account(self))
        except (StorageError, UserRequiredError) as caught:
            error: Exception = caught
        else:
            return await self._begin(visit, account)
        return await self._failed(error, visit.login_with(next_path(visit.next)))

    async def _begin(self, visit: Visit, account: str | None) -> Reply:
        if visit.cross_site and account is not None:
            # A foreign page may not connect its visitor's account unasked.
            query = visit.query.decode("ascii", "replace")
            page = pages.confirm_login(self.name, f"{visit.login_url}?{query}")
            return Reply(page=page, status=200)
        attempt = Attempt(
            started=int(visit.runtime.clock()),
            blueprint=self.name,
            state=self._new_state(),
            code_verifier=oauth2.new_code_verifier() if self.use_pkce else None,
            redirect_uri=self._redirect_uri(visit),
            next=next_path(visit.next),
            account=account,
        )
        self.provider_url("token_url")  # if it is missing, better now than afterwards
        url = self._authorization_url(attempt)
        await self.notify(oauth_before_login, url=url)
        return Reply(location=url, cookies=self._remember(visit, attempt))

    def _authorization_url(self, attempt: Attempt) -> str:
        return oauth2.authorization_url(
            self.provider_url("authorization_url"),
            client_id=self.client().client_id,
            redirect_uri=attempt.redirect_uri,
            state=attempt.state,
            scope=self.scope,
            code_verifier=attempt.code_verifier,
            code_challenge_method=self.code_challenge_method,
            params=self.authorization_url_params,
        )

    def _redirect_uri(self, visit: Visit) -> str:
        uri, parts = visit.callback_url, urlsplit(visit.callback_url)
        insecure = parts.scheme == "http" and self.allow_insecure_redirect
        if not is_secure(uri) and not insecure:
            raise ConfigurationError(
                f"the callback of {self.name!r} would be {parts.scheme}://"
                f"{parts.hostname}…, and codes may travel over https only (http is for "
                "loopback). Behind a proxy that ends TLS, let the application know: "
                "hypercorn.middleware.ProxyFixMiddleware, or redirect_uri=. Without "
                "TLS: allow_insecure_redirect=True"
            )
        return uri

    def _remember(self, visit: Visit, attempt: Attempt) -> tuple[Cookie, ...]:
        """Return the attempt's cookie, and the end of those that are too many."""
        seal = visit.seal()
        found = [
            (earlier.started, name)
            for name, value in visit.cookies.items()
            if is_cookie_name(name)
            and (earlier := seal.open(value, attempt.started))
            and earlier.blueprint == self.name
        ]
        surplus = sorted(found)[: max(0, len(found) + 1 - MAX_OPEN)]
        path = visit.cookie_path(attempt.redirect_uri)
        secure = attempt.redirect_uri.startswith("https:")
        return (
            *(Cookie(name, path, secure) for _, name in surplus),
            Cookie(cookie_name(attempt.state), path, secure, seal.close(attempt)),
        )

    async def finish(self, visit: Visit) -> Reply:
        """Take what the provider's redirect brought back, and store the token.

        Raises:
            ConfigurationError: Something is not set up; the message says what.
        """
        callback = oauth2.read_callback(visit.query)
        attempts = self._claim(visit, callback)
        error: Exception
        try:
            reply = await self._receive(visit, callback, attempts)
        except ConfigurationError:
            raise
        except (OAuthError, UserRequiredError) as caught:
            error = caught
        else:
            return self._forget(visit, callback, attempts, reply)
        wanted = next((a.next for a in attempts if a.next), None)
        reply = await self._failed(error, visit.login_with(wanted), callback)
        if callback.error and reply.response is None:
            reply = self._denied(visit, reply)
        return self._forget(visit, callback, attempts, reply)

    def _new_state(self) -> str:
        return oauth2.new_state()

    def _denied(self, visit: Visit, reply: Reply) -> Reply:
        """Return the reply where the provider sends a visitor back with an error."""
        return reply

    def _claim(self, visit: Visit, callback: oauth2.Callback) -> list[Attempt]:
        """Return this browser's attempts that the callback names, used up now."""
        seal, attempts = visit.seal(), []
        for state in callback.states:
            attempt = self._find(visit, seal, state)
            if attempt is None or attempt.blueprint != self.name:
                continue
            # The cookie is deleted as well, but a browser's cookies can be restored.
            if self._use_up(visit, state):
                attempts.append(attempt)
        return attempts

    def _use_up(self, visit: Visit, state: str) -> bool:
        """Say whether a state is new to us, and remember it."""
        now = visit.runtime.clock()
        return visit.runtime.used_states.add(fingerprint(state), True, now)

    def _find(self, visit: Visit, seal: Seal, state: str) -> Attempt | None:
        """Return the attempt of this browser that has this state, or None."""
        value = visit.cookies.get(cookie_name(state))
        return seal.find(state, value, visit.runtime.clock())

    def _forget(
        self,
        visit: Visit,
        callback: oauth2.Callback,
        attempts: Sequence[Attempt],
        reply: Reply,
    ) -> Reply:
        """Add the end of the cookies that the callback has used up."""
        uris = {a.state: a.redirect_uri for a in attempts}
        cookies = []
        for state in callback.states:
            if cookie_name(state) in visit.cookies:
                uri = uris.get(state, visit.callback_url)
                path, secure = visit.cookie_path(uri), uri.startswith("https:")
                cookies.append(Cookie(cookie_name(state), path, secure))
        return replace(reply, cookies=tuple(cookies))

    async def _receive(
        self, visit: Visit, callback: oauth2.Callback, attempts: Sequence[Attempt]
    ) -> Reply:
        attempt = self._accept(callback, attempts)
        if await saved(self.async_storage.account(self)) != attempt.account:
            raise AccountChanged(
                "You have logged in or out since this login began. Please try again."
            )
        token = await self._exchange(visit, callback, attempt)
        with self.session_with(token):
            results = await self.notify(oauth_authorized, token=token.copy())
        for result in results:
            if isinstance(result, AnyResponse):
                return Reply(response=result)
            if isinstance(result, str | bytes | tuple | list | dict):  # a refusal?
                raise ReceiverError("a receiver's page: return make_response(…)")
        if not any(result is False for result in results):
            await self.keep(token)
        return Reply(location=attempt.next or visit.home)

    def _accept(
        self, callback: oauth2.Callback, attempts: Sequence[Attempt]
    ) -> Attempt:
        """Return the attempt that the callback belongs to, if all is well with it."""
        if not attempts:
            raise StateMismatch(
                "This answer belongs to no login that was begun in this browser within "
                "the last ten minutes, or it was used before. Are cookies blocked?"
            )
        if callback.problem:
            raise InvalidCallback(callback.problem)
        if self.issuer and callback.iss != self.issuer:
            raise InvalidCallback("The answer comes from another issuer.")
        if callback.error:
            raise AccessDenied(
                callback.error, callback.error_description, callback.error_uri
            )
        return attempts[0]

    async def _exchange(
        self, visit: Visit, callback: oauth2.Callback, attempt: Attempt
    ) -> Token:
        form = oauth2.code_form(
            self.provider_url("token_url"),
            self.client(),
            code=callback.code or "",
            redirect_uri=attempt.redirect_uri,
            code_verifier=attempt.code_verifier,
            params=self.token_url_params,
        )
        answer, now = await self.post_form(form), visit.runtime.clock()
        token = read_token(
            answer, now=now, secrets=form.secrets, token_types=self.token_types
        )
        if is_expired(token, now) and not can_refresh(self, token):
            # Whoever needs it would be sent to log in again, and again.
            raise TokenRequestError(
                "invalid_response", "the token has already expired", status_code=200
            )
        return token

    async def _failed(
        self, error: Exception, login_url: str, callback: oauth2.Callback | None = None
    ) -> Reply:
        """Tell the receivers and the visitor that the login has failed."""
        status = error.status if isinstance(error, OAuthError) else 500
        code, said, shown = pages.explain(error)
        _logger.warning("Login with %r failed: %s: %s", self.name, code, said or shown)
        if isinstance(error, OAuthError):
            self.about(error)
        results = await self.notify(oauth_error, **self._told(error, callback))
        results += await self.notify(oauth_login_failed, exception=error)
        for result in results:
            if isinstance(result, AnyResponse):
                return Reply(response=result)
        return Reply(
            page=pages.login_failed(self.name, shown, login_url), status=status
        )

    def _told(
        self, error: Exception, callback: oauth2.Callback | None
    ) -> dict[str, str | None]:
        """Return what the receivers of `oauth_error` are told."""
        code, said, _ = pages.explain(error)
        uri = error.error_uri if isinstance(error, AccessDenied) else None
        return {"error": code, "error_description": said, "error_uri": uri}
