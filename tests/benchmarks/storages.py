"""Measure the storages, beside SQLAlchemy Core by hand and beside Flask-Dance."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

# Of the files beside this one, flask.py would be taken for Flask.
sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import sites
from benchmarks import ours, report, rivals, scaling, tables
from benchmarks.measure import CROWD, Measurement, Timing
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

#: How many rows there are where a get is tried on tables of different sizes.
SIZES = {"quick": (100, 1_000), "full": (1_000, 1_000_000)}


def database(text: str) -> str:
    """Return a database that was asked for; argparse says what is wrong with it."""
    if text != "sqlite" and text not in tables.SERVERS and "://" not in text:
        raise ValueError(text)
    return text


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The ratios are medians of the rounds, in which all take turns; the "
        "absolute times are as good as the machine was quiet.",
    )
    parser.add_argument(
        "database",
        nargs="*",
        type=database,
        help='"sqlite", "postgresql" or "mariadb" on this machine, where a database '
        "is made and removed again; or the URL of a database in which the tables of "
        "the benchmark may be dropped (default: all three that answer)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it as JSON")
    parser.add_argument(
        "--quick", action="store_true", help="few calls, one round: to see that it runs"
    )
    parser.add_argument("--rounds", type=int, help="default: 15")
    parser.add_argument(
        "--pool", type=int, default=10, help="connections of each pool (default: 10)"
    )
    parser.add_argument(
        "--redis-port", type=int, help="default: 6379, if a Redis answers there"
    )
    given = parser.parse_args()
    given.database = given.database or tables.at_hand()
    given.rounds = given.rounds or (1 if given.quick else 15)
    if given.redis_port is None and sites.REDIS[0].answers():
        given.redis_port = sites.REDIS[0].port
    return given


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure all that was asked for, and return the report."""
    measurement = Measurement(
        calls=CROWD if given.quick else 3 * CROWD, rounds=given.rounds
    )
    found: dict[str, Any] = {"machine": report.machine(), "results": []}
    found |= {"pools": {}, "sizes": {}, "targets": []}
    say("no database")
    with tempfile.TemporaryDirectory() as folder:
        async with ours.without_database(Path(folder)) as contestants:
            timings = await measurement.run(contestants)
    found["results"] += report.results("no database", timings)
    for database in given.database:
        say(database)
        with tables.place_of(database) as url:
            async with opened(url, given.pool) as engine:
                name = engine.dialect.name.replace("mysql", "mariadb")
                timings = await in_database(engine, measurement, given)
                found["results"] += report.results(name, timings)
                found["targets"] += report.targets(name, timings)
                if name != "sqlite":
                    found["pools"][name] = await scaling.by_pool(engine, measurement)
                if name == "postgresql":
                    sizes = SIZES["quick" if given.quick else "full"]
                    grown = await scaling.by_size(engine, measurement, sizes)
                    found["sizes"] = grown["microseconds"]
                    found["targets"].append(grown["target"])
    found["machine"]["load_at_the_end"] = os.getloadavg()
    return found


@asynccontextmanager
async def opened(url: str, pool: int) -> AsyncIterator[AsyncEngine]:
    """Give an engine for a database with the tables, which are dropped in the end."""
    sqlite = {"timeout": 60} if url.startswith("sqlite") else {}
    engine = create_async_engine(
        url, pool_size=pool, max_overflow=0, pool_timeout=60, connect_args=sqlite
    )
    try:
        await tables.make(engine)
        yield engine
        await tables.drop(engine)
    finally:
        await engine.dispose()


async def in_database(
    engine: AsyncEngine, measurement: Measurement, given: argparse.Namespace
) -> list[Timing]:
    """Measure all that keeps tokens in one database."""
    prefix = f"quart_dance_{secrets.token_hex(6)}:"
    url = engine.url.render_as_string(hide_password=False)
    try:
        async with ours.redis_cache(given.redis_port, prefix) as redis:
            with rivals.flask_dance(url, given.pool) as flask_dance:
                contestants = ours.in_database(engine, redis)
                contestants += [rivals.core(engine), flask_dance]
                return await measurement.run(contestants)
    finally:
        if given.redis_port is not None:
            sites.RedisSite(given.redis_port).remove(prefix)


def say(what: str) -> None:
    """Say what is measured now: it takes minutes."""
    print(f"measuring: {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print, and write what was asked for."""
    given = arguments()
    try:
        found = asyncio.run(measure(given))
    except LookupError as error:
        sys.exit(str(error))
    report.show(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
