"""Readers and writers around one cache, in every order there is."""

from __future__ import annotations

import asyncio

import pytest
from databases import DictCache, token
from scheduler import Scheduler

from quart_dance.consumer.storage.cache import MARKER_TTL, READ_DEADLINE, TokenCache
from quart_dance.oauth.token import Token


class Ordered(Scheduler):
    """A scheduler that is told who goes on, and then takes the first ones.

    Attributes:
        trail: Who went on at each step, and how many were parked there.
    """

    def __init__(self, choices):
        super().__init__(seed=0)
        self._choices = choices
        self.trail = []

    def rested(self, wait):
        step, parked = len(self.trail), len(self._parked)
        if not parked:
            super().rested(wait)
            return
        chosen = self._choices[step] if step < len(self._choices) else 0
        self.trail.append((chosen, parked))
        self._parked.pop(chosen).set_result(None)


def in_every_order(world, *tasks):
    """Run tasks in a new world in every order of their steps; count the orders."""
    choices, orders = [], 0
    while True:
        schedule = Ordered(choices)
        schedule.run(together(world(schedule.park), tasks))
        orders += 1
        trail = schedule.trail
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            return orders
        choices = [chosen for chosen, _ in trail]
        choices[-1] += 1


async def together(world, tasks):
    await asyncio.gather(*(task(world) for task in tasks))
    await world.check()


class World:
    """A database and a cache, a step away each; and what may be read at any time.

    Each change goes through a `TokenCache` of its own, as if another process made it.

    Attributes:
        history: Every token that the database has held, the present one last.
        known: The place in it of the last change that has returned.
    """

    ttl = 300

    def __init__(self, park):
        self.park = park
        self.cache = SteppedCache(park)
        self.tokens = TokenCache(self.cache, self.ttl)
        self.history = [Token(token("first"))]
        self.known = 0

    async def load(self):
        found = self.history[-1]
        await self.park()  # the answer is on its way
        return found

    async def read(self):
        known = self.known
        found = await self.tokens.read("key", self.load)
        assert found in self.history[known:], "older than a change that had returned"

    async def change(self, new):
        async def save():
            await self.park()
            self.history.append(new)

        await TokenCache(self.cache, self.ttl).change("key", save)
        self.known = len(self.history) - 1

    async def check(self):
        self.park = self.cache.park = pass_by
        for _ in range(2):
            assert await self.tokens.read("key", self.load) == self.history[-1]
            self.cache.end(MARKER_TTL)


async def pass_by():
    return None


class SteppedCache(DictCache):
    def __init__(self, park):
        super().__init__()
        self.park = park

    async def _operate(self, operation):
        await self.park()


def reads(world):
    return world.read()


async def reads_twice(world):
    await world.read()
    await world.read()


def sets(world):
    return world.change(Token(token("second")))


def deletes(world):
    return world.change(None)


async def deletes_and_sets(world):
    await world.change(None)
    await world.change(Token(token("third")))


@pytest.mark.parametrize(
    ("tasks", "orders"),
    [
        ((reads, deletes), 16),
        ((reads, sets), 16),
        ((reads_twice, deletes_and_sets), 250),
        ((reads, reads, deletes), 800),
        ((sets, deletes, reads), 800),
    ],
)
def test_never_older_than_what_was_known(tasks, orders):
    """S10: A read never finds what was deleted or replaced before it began.

    A slow reader, a deletion or a set in between, further readers: in every order of
    their steps; and afterwards the cache says what the database says.
    """
    assert in_every_order(World, *tasks) >= orders


class ShortWorld(World):
    """One whose entries live for less time than a reader may take."""

    ttl = 5

    async def forget(self):
        await self.park()
        self.cache.end(READ_DEADLINE)


def forgets(world):
    return world.forget()


@pytest.mark.parametrize(
    ("tasks", "orders"),
    [
        ((reads, sets, forgets), 50),
        ((reads, deletes, forgets), 100),
        ((reads, reads, sets, forgets), 3000),
    ],
)
def test_never_older_where_entries_are_short(tasks, orders):
    """S10: Nor where what was cached ends while a reader is still on its way."""
    assert in_every_order(ShortWorld, *tasks) >= orders
