"""The house: imports go down, and every floor keeps to what it may know."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest
from mutations import MUTATIONS

ROOT = Path(__file__).parent.parent
PACKAGE = "quart_dance"
#: From the ground up: what stands in one line may import it and the lines above it.
FLOORS = """
errors
oauth.urls
oauth.token
oauth.oauth2
oauth.answer
oauth.attempt
consumer.signals
consumer.storage.waiting
consumer.storage.base
consumer.storage.locks
consumer.storage.session
consumer.storage
consumer.pages
consumer.pending
consumer.runtime
consumer.options
consumer.consumer
consumer.visit
consumer.http
consumer.origins
consumer.calls
consumer.flight
consumer.refresh
consumer.flow
consumer.client
consumer.hooks
consumer.dance
consumer.room
consumer.base
consumer.oauth2
consumer
contrib
flask.gate
flask.threads
flask.waiter
flask.bridge
flask.storages
flask.async_storages
flask.consumer.storage
flask.consumer.hooks
flask.consumer.requests
flask.consumer.oauth2
flask.consumer
flask.contrib
flask
testing
demo
sqla_url
sqla_command
cli
__main__
""".split()
TOP = FLOORS.index("testing")


def modules() -> dict[str, ast.Module]:
    """Return every module of the library, parsed; a package by its own name."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts)] = ast.parse(path.read_text())
    return found


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Return the absolute names of all that a module imports, wherever in it."""
    package = module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def floor(name: str) -> int:
    """Return the floor of a module, or of something in it."""
    name = name.removeprefix(f"{PACKAGE}.").removesuffix(".__init__")
    while name not in FLOORS:
        assert "." in name, f"{name} has no floor: add it to FLOORS"
        name = name.rpartition(".")[0]
    return FLOORS.index(name)


MODULES = modules()
BELOW_ALL = [f"{PACKAGE}.__init__", f"{PACKAGE}.oauth.__init__"]


@pytest.mark.parametrize("module", [name for name in MODULES if name not in BELOW_ALL])
def test_imports_go_down(module):
    """DESIGN 4: a module imports only what lies below it, never the top."""
    here = floor(module)
    for name in imports(module, MODULES[module]):
        if name.startswith(f"{PACKAGE}.") and name != f"{PACKAGE}.__version__":
            assert floor(name) <= here, f"{module} imports {name}"
            assert floor(name) < TOP or here >= TOP


@pytest.mark.parametrize("module", BELOW_ALL)
def test_below_all(module):
    """DESIGN 4: the packages that hold floors import nothing themselves."""
    assert list(imports(module, MODULES[module])) == []


def importers(library: str) -> list[str]:
    """Return the modules below the top that import a library."""
    return [
        module
        for module, tree in MODULES.items()
        if module in BELOW_ALL or floor(module) < TOP
        if any(name.split(".")[0] == library for name in imports(module, tree))
    ]


def test_one_importer_of_httpx2():
    """DESIGN 4: HTTP is behind one door."""
    assert importers("httpx2") == ["quart_dance.consumer.http"]
    assert importers("httpx") == importers("requests") == []


@pytest.mark.parametrize(
    "library", ["asyncio", "datetime", "flask", "logging", "quart", "time", "werkzeug"]
)
def test_pure_floor(library):
    """DESIGN 4: no clock, no I/O and no framework on the ground floor."""
    pure = [name for name in importers(library) if ".oauth." in name]
    assert [*pure, *(n for n in importers(library) if n.endswith(".errors"))] == []


def test_top_level():
    """DESIGN 1: nothing lies beside what belongs at the top level."""
    try:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, text=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        listed = [path.name for path in ROOT.iterdir()]
    names = {Path(name).parts[0] for name in listed}
    assert {name for name in names if not name.startswith(".")} <= {
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "docs",
        "examples",
        "pyproject.toml",
        "quart_dance",
        "tests",
    }


def test_modules_of_tests_have_names_of_their_own():
    """No two files below tests/ are the same module: the first one would be both."""
    names = Counter(path.stem for path in (ROOT / "tests").rglob("*.py"))
    assert [name for name, count in names.items() if count > 1] in ([], ["conftest"])


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutations_apply(mutation):
    """DESIGN 9: each check that `tests/mutations.py` takes out is there, with tests."""
    text = (ROOT / PACKAGE / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    for tests in mutation.tests.split():
        assert list((ROOT / "tests").glob(f"{tests.partition('::')[0]}*"))
