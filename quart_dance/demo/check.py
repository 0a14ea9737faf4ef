"""The whole dance, walked with an HTTP client as a browser would walk it."""

from __future__ import annotations

import html
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from ..consumer.http import AsyncClient, Response
from ..testing.visitor import Form
from .app import CALLBACK_PATH, PROVIDER
from .serve import Demo

#: Seconds that an answer may take.
TIMEOUT = 30.0

Say = Callable[[str], None]
Step = tuple[str, Callable[[], Awaitable[None]]]


class Unexpected(Exception):
    """A step saw something else than what it expected."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}, saw {seen}")
        self.expected = expected
        self.seen = seen


async def check(demo: Demo, say: Say, *, fault: str = "") -> bool:
    """Walk the dance, say a line for each step, and return whether all went well.

    Args:
        demo: It is being served.
        say: Called with each line.
        fault: What is to go wrong in the first login; a key of
            `quart_dance.testing.faults.CHOICES`.
    """
    started = time.perf_counter()
    async with browser(demo) as client, browser(demo) as stranger:
        steps = Walk(demo, client, stranger, fault).steps()
        with collected_logs() as logs:
            for number, (title, step) in enumerate(steps, 1):
                logs.clear()
                if not await _try(title, step, logs, say):
                    say(f"Step {number} of {len(steps)} failed; the check stops there.")
                    return False
    total = _milliseconds(started)
    say(f"All {len(steps)} steps are ok, {total} ms in all.")
    return True


async def _try(
    title: str, step: Callable[[], Awaitable[None]], logs: list[str], say: Say
) -> bool:
    started = time.perf_counter()
    problem = None
    try:
        await step()
    except Unexpected as error:
        problem = error.expected, error.seen
    except Exception as error:  # whatever it is, it belongs into the report
        problem = "an answer", f"{type(error).__name__}: {error}"
    outcome = "FAILED" if problem else "ok"
    say(f"{outcome:<6} {_milliseconds(started):>6} ms  {title}")
    if problem:
        expected, seen = problem
        details = [f"expected: {expected}", f"seen:     {seen}"]
        for line in details + [f"logged:   {entry}" for entry in logs]:
            say(f"{'':18}{line}")
    return problem is None


def _milliseconds(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


def browser(demo: Demo) -> AsyncClient:
    """Return a client with cookies of its own, which stands for a browser."""
    # A proxy of the user's has no business between two ports of this machine.
    return AsyncClient(base_url=demo.url, timeout=TIMEOUT, trust_env=False)


@contextmanager
def collected_logs() -> Iterator[list[str]]:
    """Collect what the library logs: of failures that are meant, nobody wants to hear.

    Yields:
        The lines so far.
    """
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raised = record.exc_info[1] if record.exc_info else None
            cause = f" ({type(raised).__name__}: {raised})" if raised else ""
            lines.append(record.getMessage() + cause)

    handler = Collector(logging.WARNING)
    logger = logging.getLogger("quart_dance")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


class Walk:
    """The steps, in their order, and what one leaves for the next."""

    def __init__(
        self, demo: Demo, client: AsyncClient, stranger: AsyncClient, fault: str
    ) -> None:
        self.demo = demo
        self.provider = demo.provider
        self.client = client
        self.stranger = stranger
        self.fault = fault
        self.url = ""
        self.page = ""

    def steps(self) -> list[Step]:
        return [
            ("index page: nobody is logged in", self.logged_out),
            ("private page: sends to the login, which will lead back", self.private),
            ("login: sends to the provider, with state and PKCE", self.login),
            ("provider: asks who is there, and for consent", self.choose),
            ("provider: consent given, sends back with a code", self.allow),
            ("callback: one token request, then the private page", self.callback),
            ("index page: profile and repositories from the API", self.profile),
            ("another browser: nobody is logged in there", self.other_browser),
            ("access token expired: one refresh, the page as before", self.refresh),
            ("callback opened again: refused", self.replay),
            ("callback with a forged state: refused", self.forge),
            ("consent denied: a page says so, the old login stays", self.deny),
            ("log-out sent by another site: refused", self.foreign_logout),
            ("log out: the provider has revoked the token", self.logout),
            ("index page: nobody is logged in any more", self.logged_out),
        ]

    async def logged_out(self) -> None:
        expect(await self.client.get("/"), 200, f"Log in with {PROVIDER}")

    async def private(self) -> None:
        self.url = sent(await self.client.get("/private"), self.demo.url)
        if parse_qs(urlsplit(self.url).query) != {"next": ["/private"]}:
            raise Unexpected("next=/private in the URL", urlsplit(self.url).path)

    async def login(self) -> None:
        authorize = self.provider.authorization_url
        self.url = sent(await self.client.get(self.url), authorize)
        query = parse_qs(urlsplit(self.url).query)
        wanted = {"state", "code_challenge", "redirect_uri"}
        if missing := wanted - set(query):
            raise Unexpected("an authorization request", f"no {sorted(missing)} in it")

    async def choose(self) -> None:
        page = await self.client.get(self.url)
        expect(page, 200, "Alice Liddell", "Bob Cratchit")
        page = await self.send(page.text, person="alice")
        expect(page, 200, "Allow", "Deny")
        self.page = page.text

    async def allow(self) -> None:
        page = await self.send(self.page, decision="allow", fault=self.fault)
        self.url = sent(page, self.demo.url + CALLBACK_PATH)

    async def callback(self) -> None:
        before = self.provider.count("token")
        url = sent(await self.client.get(self.url), self.demo.url)
        self.expect_token_requests(1, before)
        expect(await self.client.get(url), 200, "The private page", "Alice Liddell")

    async def profile(self) -> None:
        page = await self.client.get("/")
        expect(page, 200, "Hello, Alice Liddell", "alice@example.com")
        expect(page, 200, "alice/hello-world", "alice/dotfiles")
        for token in self.provider.tokens:
            if token.access_token in page.text:
                raise Unexpected("no token on the page", "the access token")

    async def other_browser(self) -> None:
        expect(await self.stranger.get("/"), 200, f"Log in with {PROVIDER}")

    async def refresh(self) -> None:
        self.provider.expire_access_tokens()
        before = self.provider.count("token")
        expect(await self.client.get("/"), 200, "Hello, Alice Liddell")
        self.expect_token_requests(1, before)

    async def replay(self) -> None:
        await self.refused(self.url)

    async def forge(self) -> None:
        authorize = self.provider.authorization_url
        self.url = sent(await self.client.get("/login/dev"), authorize)
        await self.refused(f"{CALLBACK_PATH}?{urlencode({'code': 1, 'state': 2})}")

    async def deny(self) -> None:
        page = await self.client.get(self.url)
        page = await self.send(page.text, person="alice")
        page = await self.send(page.text, decision="deny")
        await self.refused(sent(page, self.demo.url + CALLBACK_PATH))
        expect(await self.client.get("/"), 200, "Hello, Alice Liddell")

    async def foreign_logout(self) -> None:
        headers = {"Origin": self.provider.url}
        expect(await self.client.post("/logout", headers=headers), 403)
        expect(await self.client.get("/"), 200, "Hello, Alice Liddell")

    async def logout(self) -> None:
        action = Form((await self.client.get("/")).text).action
        headers = {"Origin": self.demo.url}
        sent(await self.client.post(action, headers=headers), self.demo.url)
        if alive := len(self.provider.tokens):
            raise Unexpected("no token alive at the provider", f"{alive}")

    async def send(self, page: str, **pressed: str) -> Response:
        """Send the form of a provider's page."""
        form = Form(page)
        url = urljoin(self.provider.url, form.action)
        return await self.client.post(url, data={**form.fields, **pressed})

    async def refused(self, callback_url: str) -> None:
        """Open a callback that must end on the library's page, without a token."""
        before = self.provider.count("token")
        page = await self.client.get(callback_url)
        expect(page, 400, "The login failed", f"Log in with {PROVIDER} again")
        self.expect_token_requests(0, before)

    def expect_token_requests(self, count: int, before: int) -> None:
        made = self.provider.count("token") - before
        if made != count:
            raise Unexpected(f"{count} token requests", f"{made}")


def expect(response: Response, status: int, *texts: str) -> None:
    """Hold a response to its status and to what must stand on its page.

    Raises:
        Unexpected: It is another one.
    """
    if response.status_code != status:
        raise Unexpected(str(status), describe(response))
    for text in texts:
        if text not in response.text:
            raise Unexpected(f"{text!r} on the page", describe(response))


def sent(response: Response, to: str) -> str:
    """Return the absolute URL that a response sends the browser to.

    Raises:
        Unexpected: It sends it nowhere, or not to a URL that begins with `to`.
    """
    url = urljoin(str(response.url), response.headers.get("Location", ""))
    if response.status_code not in (302, 303) or not url.startswith(to):
        raise Unexpected(f"a redirect to {to}", describe(response))
    return url


def describe(response: Response) -> str:
    """Say what a response is, without the query of a URL: a code may be in it."""
    if location := response.headers.get("Location"):
        return f"{response.status_code} to {location.partition('?')[0]}"
    title = re.search(r"<title>(.*?)</title>", response.text, re.DOTALL)
    shown = html.unescape(title[1]) if title else "a page without a title"
    return f"{response.status_code}, {shown}"
