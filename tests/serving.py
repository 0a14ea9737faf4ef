"""Servers on ports of this machine: a provider, applications, and browsers."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2
from hypercorn.asyncio import serve
from hypercorn.config import Config
from ports import free_port

from quart_dance.demo.serve import HOST, listen, port_of
from quart_dance.testing import DevProvider
from quart_dance.testing.visitor import Form

#: Seconds after which a process is taken to hang.
PATIENCE = 60
ROOT = Path(__file__).parent.parent


@contextmanager
def served(**options: Any) -> Iterator[DevProvider]:
    """Serve a provider on a port, from a thread of its own."""
    sock = listen(0)
    provider = DevProvider(url=f"http://{HOST}:{port_of(sock)}", **options)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.loglevel = "WARNING"

    def run() -> None:
        asyncio.set_event_loop(loop)
        app: Any = provider
        serving = serve(app, config, mode="asgi", shutdown_trigger=stop.wait)
        loop.run_until_complete(serving)
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield provider
    finally:
        provider.release()
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)


class Server:
    """A program of Python's that serves an application on a port.

    Args:
        *arguments: What Python is called with; ``{port}`` stands for the port.
        folder: Where it may write, and writes its log to.
        env: What the environment has beside ours; PORT is the port.
    """

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._log = folder / "log"
        own = {"PYTHONPATH": str(ROOT), "no_proxy": HOST, "PORT": str(self.port)}
        own |= {"HOME": str(folder), "TMPDIR": str(folder), **(env or {})}
        with open(self._log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(part.format(port=self.port) for part in arguments)],
                cwd=ROOT,
                env={**os.environ, **own},
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text("utf-8")

    def wait(self, port: int | None = None) -> None:
        """Wait until it answers, on its port or on another one, or has ended."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            try:
                socket.create_connection((HOST, port or self.port)).close()
            except ConnectionRefusedError:
                assert time.monotonic() < end, self.log
                time.sleep(0.02)
            else:
                return

    def stop(self) -> int:
        """Ask it to end, as a supervisor does, and return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()


@contextmanager
def running(*arguments: str, ends: Any = (0,), **options: Any) -> Iterator[Server]:
    """Run a `Server`; in the end it must stop in good order, and say nothing bad.

    Args:
        *arguments: As `Server` takes them.
        ends: The exit codes that it may have.
        **options: As `Server` takes them.
    """
    server = Server(*arguments, **options)
    try:
        server.wait()
        yield server
    finally:
        code = server.stop()
    said = server.log
    assert code in ends, said
    assert not any(word in said for word in ("Traceback", "Warning", "ERROR")), said


class Browser:
    """A visitor of its own at an application on a port; keeps no connection open."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = httpx2.Cookies()

    def get(self, path: str) -> httpx2.Response:
        """Open a page; redirects are not followed."""
        return self._send("GET", path)

    def post(self, path: str, **form: str) -> httpx2.Response:
        """Send a form."""
        return self._send("POST", path, data=form)

    def login(self, person: str = "alice", path: str = "/login/dev") -> httpx2.Response:
        """Go through a whole login, its forms too; return the callback's response."""
        page = self.get(path)
        assert page.status_code == 302, page.text
        page = self.get(page.headers["Location"])
        for pressed in ({"person": person}, {"decision": "allow"}):
            form = Form(page.text)
            fields = {**form.fields, **pressed}
            page = self.post(urljoin(str(page.url), form.action), **fields)
        return self.get(page.headers["Location"])

    def _send(self, method: str, path: str, **content: Any) -> httpx2.Response:
        options: Any = {"base_url": self.url, "verify": False, "trust_env": False}
        with httpx2.Client(cookies=self.cookies, timeout=PATIENCE, **options) as client:
            response = client.request(method, path, **content)
            self.cookies.update(client.cookies)
        return response
