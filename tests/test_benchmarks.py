"""The benchmarks run, and count what does not depend on the machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import ROOT
from sites import REDIS

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "tests" / "benchmarks" / "storages.py"
OPERATIONS = ["get", "set", "delete"]
WITHOUT = ["MemoryStorage", "SessionStorage", "FileStorage"]
#: Of each storage in a database, how many statements get, set and delete are.
STATEMENTS = {
    "SQLAlchemyStorage": [1, 1, 1],
    "… without our indexes": [1, 3, 1],
    "… with a cache in memory": [0, 1, 1],
    "SQLAlchemy Core by hand": [1, 1, 1],
    "Flask-Dance": [1, 2, 1],
}


def run(*arguments: str, script: Path = SCRIPT) -> str:
    """Run a benchmark, and return what it prints."""
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def statements(report, database):
    """Return the statements of each storage, and check the rows they stand in."""
    found = {}
    for row in report["results"]:
        if row["database"] == database:
            assert row["microseconds"] >= row["best_microseconds"] > 0
            assert row["per_second"] > 0
            counts = found.setdefault((row["storage"], row["concurrent"]), {})
            counts[row["operation"]] = row["statements"]
    assert {crowd for _, crowd in found} == {1, 32}
    assert all(list(counts) == OPERATIONS for counts in found.values())
    return {name: list(counts.values()) for (name, _), counts in found.items()}


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
def test_storages(database, request, tmp_path):
    """Every storage is measured on every database, and says how many statements."""
    place = database
    if database != "sqlite":
        place = request.getfixturevalue(f"{database}_url")
    file = tmp_path / "report.json"
    printed = run(place, "--quick", "--json", str(file))
    report = json.loads(file.read_text())
    found = statements(report, database)
    # A cache that is late is passed by, so with this one there may be statements.
    with_redis = found.pop("… with a cache in Redis", None)
    assert (with_redis is not None) is REDIS[0].answers()
    assert with_redis is None or (with_redis[0] < 1 and with_redis[1:] == [1, 1])
    assert found == STATEMENTS
    assert statements(report, "no database") == {name: [0, 0, 0] for name in WITHOUT}
    assert {"date", "python", "sqlalchemy", "flask-dance"} <= set(report["machine"])
    count = {"sqlite": 7, "postgresql": 13, "mariadb": 6}[database]
    assert len(report["targets"]) == count
    for target in report["targets"]:
        assert target["target"] in printed
        assert target["ratio"] > 0 and target["limit"] in (1.0, 1.2, 1.25, 2.0)
        ratio, limit = target["ratio"], target["limit"]
        assert target["reached"] is (ratio < limit or ratio == limit != 1)
    pools = [] if database == "sqlite" else [database]
    assert list(report["pools"]) == pools
    assert all(len(times) == 3 for times in report["pools"].values())
    sizes = ["100", "1000"] if database == "postgresql" else []
    assert list(report["sizes"]) == sizes


def test_help():
    """The benchmark says how it is run."""
    assert "--json FILE" in run("--help")


def test_a_database_that_is_unknown():
    """What is neither a database that is known nor a URL ends it with one line."""
    command = [sys.executable, str(SCRIPT), "oracle"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("'oracle'")


def test_flask():
    """The views of both libraries answer, and each kind of storage is measured."""
    printed = run("--quick", script=ROOT / "tests" / "benchmarks" / "flask.py")
    rows = {
        name.strip(): [float(cell) for cell in cells]
        for line in printed.splitlines()
        if line.startswith("| ") and line[-3].isdigit()
        for name, *cells in [line.strip("| ").split(" | ")]
    }
    assert list(rows) == [
        "quart_dance",
        "Flask-Dance",
        "MemoryStorage",
        "FileStorage",
        "SQLAlchemyStorage, SQLite",
    ]
    ours, theirs = rows["quart_dance"][0], rows["Flask-Dance"][0]
    [ratio] = re.findall(r"^ratio (\d+\.\d\d) ", printed, re.MULTILINE)
    assert float(ratio) == pytest.approx(ours / theirs, rel=0.02)
