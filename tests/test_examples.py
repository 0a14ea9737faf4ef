"""The examples run, offline."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

import pytest
from blocks import ROOT, Page
from support import Visitor

QUICKSTART = ROOT / "examples" / "quickstart.py"


async def test_quickstart(dev_provider, monkeypatch):
    """The quickstart logs a visitor in and calls the API for them."""
    monkeypatch.setenv("GITHUB_OAUTH_CLIENT_ID", "dev-client-id")
    monkeypatch.setenv("GITHUB_OAUTH_CLIENT_SECRET", "dev-client-secret")
    app = runpy.run_path(str(QUICKSTART))["app"]
    dev_provider.install(app)
    visitor = Visitor(app)
    await visitor.login(dev_provider, person="bob", path="/login/github")
    response = await visitor.get("/")
    assert await response.get_data(as_text=True) == "You are @bob"


@pytest.mark.parametrize("page", ["README.md"])
def test_quickstart_is_the_documented_application(page):
    """The quickstart is the application that the documentation explains."""
    (code,) = Page(page).blocks["quickstart"]
    _, blueprint, rest = code.partition("blueprint = ")
    assert blueprint + rest in QUICKSTART.read_text("utf-8")


def test_quickstart_without_a_client():
    """Run without the client's id it says what to do, and exits."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GITHUB_")}
    done = subprocess.run(
        [sys.executable, str(QUICKSTART)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "export GITHUB_OAUTH_CLIENT_ID=" in done.stderr
