"""The Python blocks of a Markdown file, and how they belong together.

A comment stands before each block::

    <!-- test: NAME -->
    <!-- test: NAME, after OTHER -->

Blocks of one name are one module. A module that comes after another one goes on where
that one ends, with its names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quart_dance.testing import DevProvider

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(
    r"^(?:<!-- test: (?P<name>\w+)(?:, after (?P<base>\w+))? -->\n)?"
    r"```(?:py|python|pycon)\b[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Page:
    """A Markdown file with Python in it.

    Attributes:
        names: The names of its modules, in order.
        unmarked: The blocks that have no comment.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = (ROOT / path).read_text("utf-8")
        found = list(_BLOCK.finditer(self.text))
        self.unmarked = [block["code"] for block in found if not block["name"]]
        self.blocks: dict[str, list[str]] = {}
        self._bases: dict[str, str | None] = {}
        for block in found:
            self.blocks.setdefault(block["name"], []).append(block["code"])
            self._bases.setdefault(block["name"], block["base"])
        self.names = [name for name in self.blocks if name]

    def run(self, name: str) -> dict[str, Any]:
        """Run a module, and those it comes after; return its names."""
        base = self._bases[name]
        names = self.run(base) if base else {"__name__": "app"}
        code = "\n".join(self.blocks[name])
        code = compile(code, f"{self.path}#{name}", "exec", dont_inherit=True)
        exec(code, names)
        return names


@pytest.fixture
def read(dev_provider: DevProvider) -> Callable[[str, str], SimpleNamespace]:
    """Run a module of a page; its application then talks to the provider."""

    def run(page: str, name: str) -> SimpleNamespace:
        module = SimpleNamespace(**Page(f"docs/{page}.md").run(name))
        if app := getattr(module, "app", None):
            app.config["GITHUB_OAUTH_CLIENT_ID"] = "dev-client-id"
            app.config["GITHUB_OAUTH_CLIENT_SECRET"] = "dev-client-secret"
            dev_provider.install(app)
        return module

    return run


def run_pytest(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """Run the tests in a folder as somebody else would who has installed us.

    Args:
        folder: The folder.
        files: What is written there first; each begins with its name, as a comment.
    """
    for code in files:
        name = code.partition("\n")[0].removeprefix("# ")
        (folder / name).write_text(code, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
