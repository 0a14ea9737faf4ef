"""Unique indexes beside ours: no account gets what is another one's."""

from __future__ import annotations

import pytest
import pytest_asyncio
from databases import GITHUB, GOOGLE, OAuth, execute, statements, token
from old_tables import (
    DATABASES,
    OLD,
    OLD_SHARED,
    flask_dance_columns,
    made,
    opened,
    refused,
    run,
    url_of,
)
from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.consumer.storage.upgrade import Upgrade, upgrade
from quart_dance.errors import StorageError

SERVERS = ["postgresql", "mariadb"]
TABLE, SHARED = OLD.name, OLD_SHARED.name


class Base(DeclarativeBase):
    pass


class Plain(OAuthConsumerMixin, Base):
    user_id: Mapped[int | None] = mapped_column()


@pytest_asyncio.fixture(params=DATABASES)
async def engine(request, tmp_path):
    async with opened(url_of(request.param, request, tmp_path)) as engine:
        yield engine


async def upgraded(engine, table):
    return await run(engine, lambda connection: upgrade(connection, table))


async def had(engine):
    """Return what each of three accounts has, after one login each."""
    storage = SQLAlchemyStorage(OAuth, engine)
    accounts = (GITHUB, 1), (GOOGLE, 1), (GITHUB, 2)
    for owner, user in accounts:
        try:
            await storage.set(owner, token(f"{owner.name} {user}"), user_id=user)
        except StorageError:
            pass
    found = [await storage.get(owner, user_id=user) for owner, user in accounts]
    return [each and each["access_token"] for each in found]


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("user_id", ["github 1", None, "github 2"]),
        ("provider", ["github 1", "google 1", None]),
        ("note", ["github 1", None, None]),
        ("provider, note", ["github 1", "google 1", None]),
        ("note, user_id", ["github 1", None, "github 2"]),
    ],
)
async def test_an_index_that_takes_one_for_another(engine, columns, expected):
    """S7: What an index of the application's keeps out takes no other one's place."""
    await upgraded(engine, TABLE)
    await execute(engine, f"ALTER TABLE {TABLE} ALTER note SET DEFAULT ''")
    await execute(engine, f"CREATE UNIQUE INDEX other ON {TABLE} ({columns})")
    assert await had(engine) == expected


@pytest.mark.parametrize("engine", ["mariadb"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        "ADD UNIQUE (provider(1), user_id)",
        "MODIFY id INTEGER NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (user_id)",
    ],
)
async def test_a_key_that_takes_one_for_another(engine, change):
    """S7: The beginning of a name is not the name; and a primary key is a key, too."""
    await upgraded(engine, TABLE)
    await execute(engine, f"ALTER TABLE {TABLE} {change}")
    assert await had(engine) == ["github 1", None, "github 2"]


@pytest.mark.parametrize("columns", ["user_id, note, provider", "id, note"])
async def test_an_index_that_tells_all_apart(engine, columns):
    """With an index that has all columns of an account a set is one statement."""
    await upgraded(engine, TABLE)
    await execute(engine, f"CREATE UNIQUE INDEX other ON {TABLE} ({columns})")
    assert await had(engine) == ["github 1", "google 1", "github 2"]
    storage = SQLAlchemyStorage(OAuth, engine)
    for user_id in (1, NOBODY):
        await storage.set(GITHUB, token("new"), user_id=user_id)
        with statements(engine) as sent:
            await storage.set(GITHUB, token("newer"), user_id=user_id)
        assert len(sent) == 1, sent
        assert await storage.get(GITHUB, user_id=user_id) == token("newer")


async def users_logged_in(engine):
    """See that users and nobody have tokens of their own in what was shared."""
    storage = SQLAlchemyStorage(Plain, engine)
    accounts = 1, 2, NOBODY
    for user_id in accounts:
        await storage.set(GITHUB, token(f"of {user_id}"), user_id=user_id)
    for user_id in accounts:
        assert await storage.get(GITHUB, user_id=user_id) == token(f"of {user_id}")


async def test_a_shared_table_gets_users(engine):
    """S6: An upgrade drops our index of when all shared the table."""
    assert (await upgraded(engine, SHARED)).statements
    await execute(engine, f"ALTER TABLE {SHARED} ADD COLUMN user_id INTEGER")
    done = await upgraded(engine, SHARED)
    dropped = [each for each in done.statements if each.startswith("DROP INDEX")]
    assert len(dropped) == 1 and f"uq_{SHARED}_provider" in dropped[0]
    assert await upgraded(engine, SHARED) == Upgrade()
    await users_logged_in(engine)


async def test_an_index_for_nobody_that_is_for_all(engine):
    """S6: An index of our name for nobody that is for all is made anew."""
    await execute(engine, f"ALTER TABLE {SHARED} ADD COLUMN user_id INTEGER")
    name = f"uq_{SHARED}_provider_nobody"
    await execute(engine, f"CREATE UNIQUE INDEX {name} ON {SHARED} (provider)")
    assert (await upgraded(engine, SHARED)).statements
    assert await upgraded(engine, SHARED) == Upgrade()
    await users_logged_in(engine)


@pytest.mark.parametrize("kind", [UniqueConstraint, Index, PrimaryKeyConstraint])
async def test_a_key_of_the_application(engine, kind):
    """S6: What else keeps out all users but one stops an upgrade, and is named."""
    columns = [c for c in flask_dance_columns() if c.name != "id"]
    if kind is not PrimaryKeyConstraint:
        columns.append(Column("id", Integer, primary_key=True))
    if kind is Index:
        key = Index("one_each", "provider", unique=True)
    else:
        key = kind("provider", name="one_each")
    await made(engine, *columns, Column("user_id", Integer), key)
    name = "one_each"
    if kind is PrimaryKeyConstraint and engine.dialect.name == "mysql":
        name = "the primary key"
    assert await refused(engine, "odd") == (
        f"{name} of odd lets only one user have a token of each provider, being over "
        "provider alone: drop it, or add user_id to it"
    )


async def test_one_token_for_each_user(engine):
    """A rule of the application's that lets several log in is no hindrance."""
    await execute(engine, f"CREATE UNIQUE INDEX other ON {TABLE} (user_id)")
    assert (await upgraded(engine, TABLE)).statements
    assert await upgraded(engine, TABLE) == Upgrade()
