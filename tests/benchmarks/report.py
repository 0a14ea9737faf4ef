"""What the times say: a table, and the targets."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any

from benchmarks.measure import CROWD, OPERATIONS, Timing

OURS = "SQLAlchemyStorage"
CORE = "SQLAlchemy Core by hand"
FLASK_DANCE = "Flask-Dance"
LIBRARIES = """
quart_dance quart sqlalchemy aiosqlite asyncpg aiomysql aiocache redis
flask-dance psycopg pymysql
""".split()

Times = Mapping[tuple[str, str, int], Sequence[float]]


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        **{name: version(name) for name in LIBRARIES},
    }


def results(database: str, timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """Return the times as JSON has them."""
    return [
        {
            "database": database,
            "storage": timing.contestant,
            "operation": timing.operation,
            "concurrent": timing.concurrent,
            "statements": timing.statements,
            "microseconds": round(median(timing.rounds), 1),
            "best_microseconds": round(min(timing.rounds), 1),
            "per_second": round(1e6 / median(timing.rounds)),
        }
        for timing in timings
    ]


def targets(database: str, timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """Return how the targets for a database are met."""
    times = {(t.contestant, t.operation, t.concurrent): t.rounds for t in timings}
    found = [
        target(f"{database}: {what} beside Core by hand", 1.25, ratio)
        for what, ratio in ratios(times, CORE)
    ]
    beside = list(ratios(times, FLASK_DANCE))
    if database == "postgresql":
        found += [
            target(f"{database}: {what} beside Flask-Dance", 1.0, ratio)
            for what, ratio in beside
        ]
    if database == "sqlite":
        what, ratio = beside[0]
        found.append(target(f"{database}: {what} beside Flask-Dance", 2.0, ratio))
    return found


def ratios(times: Times, rival: str) -> Iterator[tuple[str, float]]:
    """Return our time by a rival's: the median of what the rounds say."""
    for operation in OPERATIONS:
        for crowd in (1, CROWD):
            ours, theirs = times[OURS, operation, crowd], times[rival, operation, crowd]
            what = f"{operation}, {'alone' if crowd == 1 else f'{crowd} at once'}"
            yield what, ratio(ours, theirs)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of each round."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def target(name: str, limit: float, found: float) -> dict[str, Any]:
    """Return a target, and whether it is reached."""
    found = round(found, 3)
    reached = found < limit if limit == 1 else found <= limit
    return {"target": name, "limit": limit, "ratio": found, "reached": reached}


def show(report: Mapping[str, Any]) -> None:
    """Print a report."""
    for database in dict.fromkeys(row["database"] for row in report["results"]):
        rows = [row for row in report["results"] if row["database"] == database]
        for operation in OPERATIONS:
            print(f"\n{database}: {operation}")
            show_rows([row for row in rows if row["operation"] == operation])
    for database, times in report["pools"].items():
        print(f"\n{database}: get, {CROWD} at once, by the connections of the pool")
        show_line("", times)
        show_line("µs", [f"{each:,.0f}" for each in times.values()])
    if times := report["sizes"]:
        print("\npostgresql: get, alone, by the rows of the table")
        show_line("", [f"{int(size):,}" for size in times])
        show_line("µs", [f"{each:,.0f}" for each in times.values()])
    print("\ntargets")
    for one in report["targets"]:
        sign = "<" if one["limit"] == 1 else "≤"
        said = "reached" if one["reached"] else "MISSED"
        print(f"{said:8} {one['ratio']:.2f} ({sign} {one['limit']:g})  {one['target']}")


def show_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what each storage needs for one operation on one database."""
    show_line("", ["statements", "µs alone", "per s", f"µs, {CROWD} at once", "per s"])
    for storage in dict.fromkeys(row["storage"] for row in rows):
        alone, crowd = (row for row in rows if row["storage"] == storage)
        cells = [f"{alone['statements']:g}"]
        for row in (alone, crowd):
            cells += [f"{row['microseconds']:,.0f}", f"{row['per_second']:,}"]
        show_line(storage, cells)


def show_line(name: str, cells: Iterable[str]) -> None:
    """Print a line of a table."""
    print(f"  {name:28}" + "".join(f"{cell:>15}" for cell in cells))
