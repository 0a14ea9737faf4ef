"""Tables of other shapes: what they are taken for, and which are refused."""

from __future__ import annotations

import pytest
import pytest_asyncio
from old_tables import (
    DATABASES,
    OLD,
    START,
    USER,
    add,
    flask_dance_columns,
    made,
    opened,
    refused,
    run,
    tokens,
    url_of,
)
from sqlalchemy import Column, ForeignKey, Integer, String, insert, text

from quart_dance.consumer.storage.upgrade import Surplus, Upgrade, plan, upgrade
from quart_dance.errors import UpgradeError


@pytest_asyncio.fixture(params=DATABASES)
async def engine(request, tmp_path):
    async with opened(url_of(request.param, request, tmp_path)) as engine:
        yield engine


async def fill(engine, table, **values):
    """Add a row of GitHub's to an odd table."""
    row = {"provider": "github", "token": {}, "created_at": START, **values}
    await run(engine, lambda connection: connection.execute(insert(table), [row]))


async def test_no_table(engine):
    """A table that is not there is not made."""
    said = await refused(engine, "flask_dance_token")
    assert said.startswith("there is no table flask_dance_token here")


@pytest.mark.parametrize("missing", ["provider", "token"])
async def test_no_column(engine, missing):
    """Another table than one of tokens is left alone."""
    await made(engine, *(c for c in flask_dance_columns() if c.name != missing))
    assert f"odd has no column {missing}" in await refused(engine, "odd")


async def test_no_user_column(engine):
    """A user column that is not there is not made up."""
    said = await refused(engine, user_column="owner_id")
    assert f"{OLD.name} has no column owner_id" in said


async def test_no_primary_key(engine):
    """Without a primary key rows could not be told apart."""
    columns = [c for c in flask_dance_columns() if c.name != "id"]
    await made(engine, *columns, Column("id", Integer))
    assert await refused(engine, "odd") == "odd has no primary key: add one first"


@pytest.mark.parametrize(
    "columns",
    [
        {"owner_id": True},
        {"owner": False},
        {"user_id": True, "owner_id": True},
        {"user_id": False, "owner_id": True},
    ],
    ids=str,
)
async def test_users_are_not_guessed(engine, columns):
    """Where something else may tell users apart, nobody's tokens are removed."""
    own = [
        Column(name, Integer, *([ForeignKey(USER.c.id)] if refers else []))
        for name, refers in columns.items()
    ]
    table = await made(engine, *flask_dance_columns(), *own)
    for user in (1, 2):
        await fill(engine, table, **{own[-1].name: user})
    said = await refused(engine, "odd")
    assert "odd may have its users in one of these columns: " in said
    assert own[-1].name in said
    done = await run(engine, lambda c: upgrade(c, "odd", user_column=own[-1].name))
    assert done.statements and not done.surplus


async def test_shared_with_a_column_of_ones_own(engine):
    """It can be said that a table with more columns has no users."""
    table = await made(engine, *flask_dance_columns(), Column("note", String(50)))
    for note in ("a", "b"):
        await fill(engine, table, note=note)
    assert "in one of these columns: note" in await refused(engine, "odd")
    done = await run(engine, lambda c: upgrade(c, "odd", shared=True))
    assert done.surplus == (Surplus("github", None, 1),)
    said = await refused(engine, "odd", shared=True, user_column="note")
    assert said == "a table that is shared has no user column: leave one of them out"


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        (kind, name)
        for kind in DATABASES
        for name in ("provider", "user_id")
        if (kind, name) != ("sqlite", "user_id")  # it compares anything
    ],
    indirect=["engine"],
)
async def test_a_column_of_a_wrong_kind(engine, name):
    """What no unique index can tell apart is refused, with what it should be."""
    odd = "point" if engine.dialect.name == "postgresql" else "TEXT"
    kinds = {"provider": "VARCHAR(50)", "user_id": "INTEGER"}
    kinds[name] = "INTEGER" if name == "provider" else odd
    create = (
        f"CREATE TABLE odd (id INTEGER PRIMARY KEY, provider {kinds['provider']}, "
        f"token JSON, user_id {kinds['user_id']})"
    )
    await run(engine, lambda connection: connection.execute(text(create)))
    said = await refused(engine, "odd")
    assert said.startswith(f"the column {name} is of type ")


# SQLite's other schemas are other files.
@pytest.mark.parametrize("engine", ["postgresql", "mariadb"], indirect=True)
async def test_a_table_in_a_schema(engine):
    """A table may be somewhere else than where the connection begins."""
    name = f"{engine.url.database}_elsewhere"
    schema = "DATABASE" if engine.dialect.name == "mysql" else "SCHEMA"
    await run(engine, lambda c: c.execute(text(f"CREATE {schema} {name}")))
    try:
        elsewhere = await made(engine, *flask_dance_columns(), schema=name)
        for _ in range(2):
            await fill(engine, elsewhere)
        assert (await refused(engine, "odd")).startswith("there is no table odd here")
        done = await run(engine, lambda c: upgrade(c, "odd", schema=name))
        assert done.surplus == (Surplus("github", None, 1),)
        assert await run(engine, lambda c: upgrade(c, "odd", schema=name)) == Upgrade()
    finally:
        more = "" if engine.dialect.name == "mysql" else " CASCADE"
        await run(engine, lambda c: c.execute(text(f"DROP {schema} {name}{more}")))


async def test_accounts_that_differ_in_case(engine):
    """Names that differ in case only are two, whatever the database takes them for."""
    users = [Column("user_id", String(50))]
    table = await made(engine, *flask_dance_columns(), *users)
    for provider, user in (("github", "ada"), ("GitHub", "ada"), ("github", "Ada")):
        await fill(engine, table, provider=provider, user_id=user)
    assert (await run(engine, lambda connection: plan(connection, "odd"))).surplus == ()
    done = await run(engine, lambda connection: upgrade(connection, "odd"))
    assert done.surplus == ()
    assert await run(engine, lambda connection: upgrade(connection, "odd")) == Upgrade()
    await fill(engine, table, provider="GITHUB", user_id="ada")


async def test_accounts_that_differ_in_a_space(mariadb_url):
    """What MariaDB's indexes cannot tell apart stays, and it says so."""
    async with opened(mariadb_url) as engine:
        users = [Column("user_id", String(50))]
        table = await made(engine, *flask_dance_columns(), *users)
        for user in ("ada", "ada "):
            await fill(engine, table, user_id=user)
        with pytest.raises(UpgradeError, match="differ in spaces at the end only"):
            await run(engine, lambda connection: upgrade(connection, "odd"))
        count = text("SELECT count(*) FROM odd")
        assert await run(engine, lambda connection: connection.scalar(count)) == 2


async def test_an_empty_table(engine):
    """A table without rows gets its indexes, too."""
    assert (await run(engine, lambda c: upgrade(c, OLD.name))).surplus == ()
    await add(engine, (1, "x", 1))
    assert await tokens(engine) == [("github", 1, "x")]
