"""Processes that work for a test."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quart_dance.demo.serve import HOST

#: Seconds after which a process is taken to hang.
PATIENCE = 60
ROOT = Path(__file__).parents[2]


class Process:
    """A process that runs worker.py."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "no_proxy": HOST, "PATH": ""},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def say(self, line: str) -> None:
        """Give it a line to read."""
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        """Return the next line that it says; nothing if it has died."""
        line = self._lines.get(timeout=PATIENCE)
        if not line:
            self.process.wait(PATIENCE)
        return line.strip()

    def close(self) -> None:
        """Let it end: nothing is to be said when a process ends in good order."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        assert code in (0, -signal.SIGKILL), f"worker.py ended with {code}"


class Crew:
    """Processes that are kept from test to test, as starting one takes a second."""

    def __init__(self) -> None:
        self._processes: list[Process] = []

    def run(self, *jobs: Mapping[str, Any]) -> list[list[str] | None]:
        """Let each job be done by a process of its own, all at once.

        Returns:
            What each process says; None if it has died.
        """
        return self.results(self.begin(*jobs))

    def begin(self, *jobs: Mapping[str, Any]) -> list[Process]:
        """Let processes begin to work, at the same moment."""
        for dead in [each for each in self._processes if not each.alive]:
            self._processes.remove(dead)
            dead.close()
        while len(self._processes) < len(jobs):
            self._processes.append(Process())
        chosen = self._processes[: len(jobs)]
        for process, job in zip(chosen, jobs, strict=True):
            process.say(json.dumps(job))
        for process in chosen:
            assert process.heard() == "ready"
        for process in chosen:
            process.say("go")
        return chosen

    def results(self, processes: list[Process]) -> list[list[str] | None]:
        """Wait for processes, and return what each says; None if it has died."""
        lines = [process.heard() for process in processes]
        return [json.loads(line) if line else None for line in lines]

    def close(self) -> None:
        """End all of them."""
        for process in self._processes:
            process.close()
