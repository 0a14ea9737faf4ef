"""What a file storage does in a process of its own: killed, without space or rights.

Run by test_file_disk as ``limited.py MODE FOLDER [NAME]``; says what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from quart_dance.consumer.storage.file import FileStorage
from quart_dance.errors import StorageError

OWNER = SimpleNamespace(name="dev")
OLD = {"access_token": "old", "padding": "o" * 2000}
NEW = {"access_token": "new", "padding": "n" * 9000}
STORAGE = FileStorage("tokens/{bp.name}.json")
FILE = Path("tokens/dev.json")
ACTIONS = {
    "set": lambda: STORAGE.set(OWNER, NEW),
    "replace": lambda: STORAGE.replace(OWNER, OLD, NEW),
    "delete": lambda: STORAGE.delete(OWNER),
}


def listed(folder: Path) -> list[str]:
    """Return what lies in a folder beside the lock files."""
    return [path.name for path in folder.glob("*") if path.name != ".locks"]


class Killer:
    """Kills this process before or after one of its system calls.

    Args:
        step: Which; the first one is 1.
    """

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, frame: Any, event: str, arg: Any) -> None:
        if event not in ("c_call", "c_return"):
            return
        owner = type(getattr(arg, "__self__", None)).__module__
        if arg.__module__ == "posix" or owner == "_io":
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def kill(action: str) -> list[Any]:
    """Do something as often as it has steps, and die in each of them once.

    Returns:
        What the file held after each death, and whether no token was left behind
        by a log-out afterwards.
    """
    seen: list[Any] = []
    while True:
        for name in listed(FILE.parent):
            (FILE.parent / name).unlink()
        asyncio.run(STORAGE.set(OWNER, OLD))
        child = os.fork()
        if child == 0:
            threading.setprofile(Killer(len(seen) + 1))
            asyncio.run(ACTIONS[action]())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return seen
        files = (path for path in FILE.parent.rglob("*") if path.is_file())
        modes = {file.stat().st_mode & 0o777 for file in files}
        token = json.loads(FILE.read_bytes()) if FILE.exists() else None
        assert token in (None, OLD, NEW), token
        asyncio.run(STORAGE.delete(OWNER))
        left = listed(FILE.parent)
        seen.append([token and token["access_token"], sorted(modes), left])


def attempt() -> list[Any]:
    """Try to store a token, and say what came of it."""
    try:
        asyncio.run(STORAGE.set(OWNER, NEW))
    except StorageError as error:
        return [str(error), listed(FILE.parent)]
    return ["stored"]


def full() -> list[Any]:
    """Store where a file may have 4 kB."""
    asyncio.run(STORAGE.set(OWNER, OLD))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    return attempt()


def read_only() -> list[Any]:
    """Store where nothing may be written."""
    asyncio.run(STORAGE.set(OWNER, OLD))
    FILE.chmod(0o644)
    FILE.parent.chmod(0o555)
    if os.geteuid() == 0:  # whom no mode keeps out
        Path().chmod(0o755)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    return attempt()


def write(name: str) -> list[Any]:
    """Store 50 tokens where another process does the same."""

    async def main() -> None:
        storage = FileStorage("tokens/{user_id}.json")
        for number in range(50):
            token = {"access_token": f"{name}-{number}", "padding": "p" * 5000}
            await storage.set(OWNER, token, user_id=name)
            await storage.set(OWNER, token, user_id="both")

    asyncio.run(main())
    return []


if __name__ == "__main__":
    mode, folder, *arguments = sys.argv[1:]
    os.chdir(folder)
    modes: dict[str, Any] = {"kill": kill, "full": full, "read-only": read_only}
    print(json.dumps({**modes, "write": write}[mode](*arguments)))
