"""Servers of a test's own: it may stop, kill and pause them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from ports import free_port
from sites import HOST, MariaDBSite, PostgreSQLSite, RedisSite, Site

#: Seconds that a server may take to start, or to stop.
PATIENCE = 60
PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


class MissingProgram(Exception):
    """A server is not installed; the message says which program is missing."""


class Server(ABC):
    """A server in a temporary folder, on a port of its own.

    Used as a context manager it is there, and runs; after that nothing of it is left.

    Attributes:
        site: Where it answers.
        durable: Whether what it has said to be stored survives a power cut. What a
            database has stored survives `kill` in any case.

    Raises:
        MissingProgram: It is not installed.
    """

    kind: ClassVar[type[Site]]
    user: ClassVar[str] = ""
    #: The signal that ends it in good order, whoever is connected.
    ending: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, *, durable: bool = False) -> None:
        self.program = self.find()
        self.durable = durable
        self.site = self.kind(free_port(), self.user)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the one database that a test uses."""
        return self.site.url("test")

    @abstractmethod
    def find(self) -> str:
        """Return the path of the program."""

    def prepare(self) -> None:  # noqa: B027
        """Make what it needs before it starts for the first time."""

    @abstractmethod
    def options(self) -> list[str]:
        """Return the arguments of the program."""

    def __enter__(self) -> Self:
        # Not in pytest's folder, which nobody but its owner may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="quart-dance-"))
        try:
            if os.geteuid() == 0:
                nobody = pwd.getpwnam("nobody")
                os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process is None or self._process.poll() is not None:
            with open(self.folder / "log", "ab") as log:
                self._process = subprocess.Popen(
                    [self.program, *self.options()],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # ^C is for the tests
                    **self._as_nobody(),
                )
        end = time.monotonic() + PATIENCE
        while not self.site.answers():
            if self._process.poll() is not None or time.monotonic() > end:
                log_text = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"{self.program} does not start:\n{log_text}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order, and its connections with it."""
        if self._process is not None:
            self._process.send_signal(self.ending)
            self._process.wait(PATIENCE)
            self._process = None

    def kill(self) -> None:
        """End it and its children at once, as a crash of the machine does."""
        if self._process is not None:
            for process in self._family():
                os.kill(process, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None

    def pause(self) -> None:
        """Stop it where it is: its connections stay open, and nothing answers."""
        for process in self._family():
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        for process in self._family():
            os.kill(process, signal.SIGCONT)

    def clear(self) -> None:
        """Let it run, with one empty database."""
        self.resume()
        self.start()
        self.site.clear("test")

    def call(self, *command: str) -> None:
        """Run a program that prepares the folder, as the user who runs the server."""
        done = subprocess.run(command, capture_output=True, **self._as_nobody())
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout!r} {done.stderr!r}")

    def _as_nobody(self) -> dict[str, Any]:
        """Return how to run a program: databases do not run as root."""
        given: dict[str, Any] = {"cwd": self.folder}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            given |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        return given

    def _family(self) -> list[int]:
        """Return the children, and the process, stopped lest it make or bury one."""
        if self._process is None or self._process.poll() is not None:
            return []
        parent = self._process.pid
        os.kill(parent, signal.SIGSTOP)
        # PostgreSQL's children are in process groups of their own.
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [*map(int, children), parent]


class PostgreSQL(Server):
    kind = PostgreSQLSite
    user = "postgres"
    ending = signal.SIGINT

    def find(self) -> str:
        # Debian has the programs of each version in a folder that is not in PATH.
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        places = os.pathsep.join((*map(str, found), PLACES))
        return _find("postgres", places)

    def prepare(self) -> None:
        initdb = str(Path(self.program).resolve().parent / "initdb")
        options = "-U postgres -A trust -E UTF8 --locale=C --no-sync".split()
        self.call(initdb, *options, "-D", str(self.folder / "data"))

    def options(self) -> list[str]:
        given = {"listen_addresses": HOST, "unix_socket_directories": ""}
        if not self.durable:
            given |= {"fsync": "off", "full_page_writes": "off"}
        settings = [f"--{name}={value}" for name, value in given.items()]
        data = str(self.folder / "data")
        return ["-D", data, "-p", str(self.site.port), *settings]


class MariaDB(Server):
    kind = MariaDBSite
    user = "root"

    def find(self) -> str:
        self.install = _find("mariadb-install-db", PLACES)
        return _find("mariadbd", PLACES)

    def prepare(self) -> None:
        options = "--auth-root-authentication-method=normal --skip-test-db"
        data = f"--datadir={self.folder / 'data'}"
        self.call(self.install, "--no-defaults", data, *options.split())

    def options(self) -> list[str]:
        settings = [
            "--no-defaults",  # this must come first
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--bind-address={HOST}",
            f"--port={self.site.port}",
            "--innodb-buffer-pool-size=32M",
        ]
        if not self.durable:
            settings += ["--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0"]
            settings += ["--innodb-flush-method=nosync"]
        return settings


class Redis(Server):
    kind = RedisSite

    def find(self) -> str:
        return _find("redis-server", PLACES)

    def options(self) -> list[str]:
        aof = "yes" if self.durable else "no"
        port = str(self.site.port)
        return ["--bind", HOST, "--port", port, "--save", "", "--appendonly", aof]

    def clear(self) -> None:
        """Start it anew: it holds nothing then."""
        self.kill()
        self.start()


def _find(program: str, places: str) -> str:
    found = shutil.which(program, path=places)
    if found is None:
        raise MissingProgram(f"{program} is not installed")
    return found
