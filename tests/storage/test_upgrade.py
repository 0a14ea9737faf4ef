"""Tables that Flask-Dance made become what our storage is fastest with."""

from __future__ import annotations

import pytest_asyncio
from databases import GITHUB, GOOGLE, OAuth, statements, token
from old_tables import (
    DATABASES,
    DAY,
    OLD,
    OLD_SHARED,
    START,
    add,
    opened,
    run,
    tokens,
    url_of,
)
from sqlalchemy import insert, inspect
from sqlalchemy.orm import DeclarativeBase

from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.consumer.storage.upgrade import Surplus, Upgrade, plan, upgrade


class Base(DeclarativeBase):
    pass


class Plain(OAuthConsumerMixin, Base):
    pass


@pytest_asyncio.fixture(params=DATABASES)
async def engine(request, tmp_path):
    async with opened(url_of(request.param, request, tmp_path)) as engine:
        yield engine


def upgraded(engine, table=OLD.name, **options):
    """Upgrade a table in a transaction of its own."""
    return run(engine, lambda connection: upgrade(connection, table, **options))


def planned(engine, table=OLD.name, **options):
    return run(engine, lambda connection: plan(connection, table, **options))


async def add_duplicates(engine):
    """Add accounts with one row and with several, in no order."""
    await add(engine, (1, "ada's", 3), (1, "old", 2), (2, "bob's", 1), (1, "older", 1))
    await add(engine, (None, "old", 1), (None, "shared", 2))
    await add(engine, (1, "as new", 1), (1, "and later", 1), provider="google")


SURPLUS = (Surplus("github", None, 1), Surplus("github", 1, 2), Surplus("google", 1, 1))
KEPT = [
    ("github", 1, "ada's"),
    ("github", 2, "bob's"),
    ("github", None, "shared"),
    ("google", 1, "and later"),
]


async def test_duplicates_are_removed(engine):
    """The newest row of each account stays, nobody's too; of one time the last."""
    await add_duplicates(engine)
    done = await upgraded(engine)
    assert sorted(done.surplus, key=str) == sorted(SURPLUS, key=str)
    assert await tokens(engine) == KEPT


async def test_the_storage_reads_the_same(engine):
    """What the storage read before an upgrade is what it reads after it."""
    await add_duplicates(engine)
    storage = SQLAlchemyStorage(OAuth, engine)
    accounts = [(b, u) for b in (GITHUB, GOOGLE) for u in (1, 2, 3, NOBODY)]

    async def read():
        return [await storage.get(b, user_id=user) for b, user in accounts]

    before = await read()
    await upgraded(engine)
    assert await read() == before
    assert before[:2] == [token("ada's"), token("bob's")]


async def test_one_statement_each(engine):
    """After an upgrade the storage takes one statement, and finds its leases."""
    await add_duplicates(engine)
    await upgraded(engine)
    storage = SQLAlchemyStorage(OAuth, engine)
    await storage.set(GOOGLE, token("the look-up"))
    for user_id in (1, 5, NOBODY):
        with statements(engine) as sent:
            await storage.set(GITHUB, token("new"), user_id=user_id)
        assert len(sent) == 1, sent
        assert await storage.get(GITHUB, user_id=user_id) == token("new")
    with statements(engine) as sent:
        async with storage.refresh_lock(GITHUB, user_id=1):
            pass
    assert not any("CREATE" in statement for statement in sent)


async def test_a_second_run_has_nothing_to_do(engine):
    """What is done is not done again."""
    await add_duplicates(engine)
    assert (await upgraded(engine)).statements
    with statements(engine) as sent:
        assert await upgraded(engine) == await planned(engine) == Upgrade()
    changing = ("DELETE", "UPDATE", "CREATE", "ALTER", "LOCK", "INSERT")
    assert not [s for s in sent if s.lstrip().startswith(changing)]
    assert await tokens(engine) == KEPT


async def test_a_plan_changes_nothing(engine):
    """A plan is what is done later, and leaves everything as it is."""
    await add_duplicates(engine)
    before = await tokens(engine)
    told = await planned(engine)
    assert await tokens(engine) == before
    assert await planned(engine) == told == await upgraded(engine)


async def test_what_is_done(engine, request):
    """The statements are those of the model's own tables, on each database."""
    await add_duplicates(engine)
    done = await planned(engine)
    firsts = [" ".join(s.split()[:3]) for s in done.statements]
    delete = f"DELETE FROM {OLD.name}"
    index, lease = "CREATE UNIQUE INDEX", f"CREATE TABLE {OLD.name}_lease"
    alter = f"ALTER TABLE {OLD.name}"
    prepared = [alter, alter] if engine.dialect.name == "mysql" else []
    assert firsts == [*prepared, delete, index, index, lease]


async def test_a_model(engine):
    """An application may pass its model in place of the table's name."""
    await add_duplicates(engine)
    assert (await upgraded(engine, OAuth)).surplus
    assert await tokens(engine) == KEPT
    assert await upgraded(engine) == Upgrade()


async def test_a_table_without_users(engine):
    """Without users each provider has one row."""
    rows = [
        {"provider": provider, "token": token(name), "created_at": START + day * DAY}
        for provider, name, day in (
            ("github", "new", 2),
            ("github", "old", 1),
            ("google", "one", 1),
        )
    ]
    await run(engine, lambda connection: connection.execute(insert(OLD_SHARED), rows))
    done = await upgraded(engine, OLD_SHARED.name)
    assert done.surplus == (Surplus("github", None, 1),)
    assert await tokens(engine, OLD_SHARED) == [("github", "new"), ("google", "one")]
    storage = SQLAlchemyStorage(Plain, engine)
    await storage.set(GOOGLE, token("newer"))
    with statements(engine) as sent:
        await storage.set(GITHUB, token("newer"))
    assert len(sent) == 1
    assert await tokens(engine, OLD_SHARED) == [
        ("github", "newer"),
        ("google", "newer"),
    ]


async def test_other_columns_stay(engine):
    """The columns, keys and indexes of the application's own are there afterwards."""
    await add(engine, (1, "new", 2), (1, "old", 1))
    values = {"note": "vip"}
    await run(engine, lambda c: c.execute(OLD.update().values(values)))

    def look(connection):
        found = inspect(connection)
        keys = found.get_foreign_keys(OLD.name)
        columns = {
            column["name"]: (column["nullable"], column["default"])
            for column in found.get_columns(OLD.name)
            if column["name"] != "provider_of_nobody"
        }
        return columns, [key["referred_table"] for key in keys]

    before = await run(engine, look)
    await upgraded(engine)
    assert await run(engine, look) == before
    notes = await run(engine, lambda c: c.execute(OLD.select()).all())
    assert [row.note for row in notes] == ["vip"]
