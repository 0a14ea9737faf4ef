"""The command, called in process and as a process."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result
from ports import occupied

from quart_dance import __version__
from quart_dance.cli import main

COMMAND = [sys.executable, "-W", "error", "-m", "quart_dance"]
FREE_PORTS = ["--port", "0", "--provider-port", "0"]


def invoke(*args: str) -> Result:
    """Call the command in this process."""
    return CliRunner().invoke(main, args)


def test_version() -> None:
    """The version is the package's."""
    assert invoke("--version").output == f"quart-dance, version {__version__}\n"


def test_help() -> None:
    """The help names every option with what it is for."""
    assert "Log in at a provider on your own machine." in invoke("--help").output
    result = invoke("demo", "--help")
    assert result.exit_code == 0
    for text in ("--port", "--provider-port", "--check", "[default: 5000;", "loopback"):
        assert text in result.output


def test_check() -> None:
    """The check exits with 0 if all is well."""
    result = invoke("demo", "--check", *FREE_PORTS)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line[:2] for line in lines] == ["ok"] * 15 + ["Al"]
    assert result.stderr == ""


def test_failing_check() -> None:
    """The check exits with 1 if something is wrong, and says what."""
    result = invoke("demo", "--check", "--fault", "token-500", *FREE_PORTS)
    assert result.exit_code == 1
    assert re.search(r"^FAILED +\d+ ms  callback: one token", result.stdout, re.M)
    assert re.search(r"^ +seen: +502, The login failed$", result.stdout, re.M)
    assert result.stdout.endswith("Step 6 of 15 failed; the check stops there.\n")
    assert result.stderr == ""


def test_fault_without_check() -> None:
    """A fault is for the check only: in a browser the consent page offers them."""
    result = invoke("demo", "--fault", "no-code")
    assert result.exit_code == 2
    assert "--fault goes with --check" in result.stderr


def test_taken_ports() -> None:
    """Ports that are taken are replaced by the next free ones, and it says so."""
    with occupied() as port, occupied() as other:
        ports = ["--port", str(port), "--provider-port", str(other)]
        result = invoke("demo", "--check", *ports)
    assert result.exit_code == 0
    first, second = result.output.splitlines()[:2]
    moved = re.fullmatch(
        rf"Port {port} is taken: the application is on port (\d+)\.", first
    )
    assert moved and int(moved[1]) > port
    moved = re.fullmatch(
        rf"Port {other} is taken: the provider is on port (\d+)\.", second
    )
    assert moved and int(moved[1]) > other


@pytest.mark.parametrize("option", ["--port", "--provider-port"])
@pytest.mark.parametrize("check", [["--check"], []])
def test_no_port_at_all(option: str, check: list[str]) -> None:
    """Where no port is free, one sentence says so, and the exit code is 1."""
    with occupied(65535):
        result = invoke("demo", *check, *FREE_PORTS, option, "65535")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: the demo cannot start: every port of 127.0.0.1 from 65535 to 65535 is "
        "taken.\n"
    )


def test_check_as_a_process() -> None:
    """The check needs no pytest, takes no proxy and leaves nothing open."""
    code = "import sys; sys.modules['pytest'] = None; import quart_dance.cli as cli"
    proxy = "http://127.0.0.1:1"
    env = {**os.environ, "HTTP_PROXY": proxy, "http_proxy": proxy, "ALL_PROXY": proxy}
    done = subprocess.run(
        [*COMMAND[:-2], "-c", f"{code}; cli.main()", "demo", "--check", *FREE_PORTS],
        capture_output=True,
        text=True,
        env={name: env[name] for name in env if name.lower() != "no_proxy"},
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.count("\nok ") == 14
    assert done.returncode == 0


@contextmanager
def running(*args: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the demo; give it with what it has said when it can be opened."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, "demo", *args], stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip())
                if "Press Ctrl-C" in line:
                    break
            yield process, lines
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping(number: int) -> None:
    """A demo that is interrupted stops at once, browsers connected or not."""
    with running(*FREE_PORTS) as (process, lines):
        origins = [line.split()[-1] for line in lines[:2]]
        assert re.fullmatch(r"Provider: +http://127\.0\.0\.1:\d+", lines[0])
        assert re.fullmatch(r"Sample application: +http://127\.0\.0\.1:\d+", lines[1])
        assert lines[2:] == [
            "",
            f"Open {origins[1]} in a browser and log in as Alice or Bob.",
            "No password is needed. Press Ctrl-C here to stop.",
        ]
        connections = [
            http.client.HTTPConnection(origin.removeprefix("http://"))
            for origin in origins
        ]
        answers = []
        for connection, path in zip(connections, ["/api/user", "/"], strict=True):
            connection.request("GET", path)
            answer = connection.getresponse()
            answers.append((answer.status, b"Nobody is logged in" in answer.read()))
        assert answers == [(401, False), (200, True)]
        process.send_signal(number)
        stdout, stderr = process.communicate()  # the connections are still open
        for connection in connections:
            connection.close()
        assert (process.returncode, stdout, stderr) == (0, "Stopped.\n", "")
