"""What becomes of a get where the table grows, or the pool."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

from benchmarks import ours, report, tables
from benchmarks.measure import CROWD, Measurement
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage

#: The pools; the last one is what SQLAlchemy makes where nothing is said.
POOLS = {
    "5": {"pool_size": 5, "max_overflow": 0},
    "20": {"pool_size": 20, "max_overflow": 0},
    "5 and 10 more": {"pool_size": 5, "max_overflow": 10},
}


async def by_size(
    engine: AsyncEngine, measurement: Measurement, sizes: tuple[int, int]
) -> dict[str, Any]:
    """Measure a get on a small and on a large table, of users all over it."""
    chosen = random.Random(1)
    contestants = {}
    for model, size in zip((tables.Few, tables.Many), sizes, strict=True):
        await tables.fill(engine, model, size)
        storage = SQLAlchemyStorage(model, engine)
        contestants[size] = ours.of_users(model.__name__, storage)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(measurement.rounds + 1):
        for size, contestant in contestants.items():
            users = [chosen.randint(1, size) for _ in range(measurement.calls)]
            times[size].append(await measurement.time(contestant, "get", users))
    few, many = (times[size][1:] for size in sizes)  # the first one warms up
    name = f"postgresql: get, {sizes[1]:,} rows beside {sizes[0]:,}"
    return {
        "microseconds": _medians(times),
        "target": report.target(name, 1.2, report.ratio(many, few)),
    }


async def by_pool(engine: AsyncEngine, measurement: Measurement) -> dict[str, float]:
    """Return the microseconds of a concurrent get, by what the pool is."""
    users = range(1, measurement.calls + 1)
    times: dict[str, list[float]] = {name: [] for name in POOLS}
    async with AsyncExitStack() as stack:
        contestants = {}
        for name, options in POOLS.items():
            pool = create_async_engine(engine.url, **options)
            stack.push_async_callback(pool.dispose)
            storage = SQLAlchemyStorage(tables.OAuth, pool)
            contestants[name] = ours.of_users(name, storage)
        for _ in range(measurement.rounds + 1):
            for name, one in contestants.items():
                times[name].append(await measurement.time(one, "get", users, CROWD))
    return _medians(times)


def _medians(times: Mapping[Any, list[float]]) -> dict[str, float]:
    """Return the medians without the first round, which warms up."""
    return {str(size): round(median(all_[1:]), 1) for size, all_ in times.items()}
