"""What an upgrade would lose it does not touch; and what a database refuses it says."""

from __future__ import annotations

import pytest
import pytest_asyncio
from old_tables import (
    DATABASES,
    OLD,
    START,
    add,
    made,
    opened,
    refused,
    run,
    tokens,
    url_of,
)
from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Integer,
    insert,
    inspect,
    select,
    text,
)

from quart_dance.consumer.storage.upgrade import upgrade
from quart_dance.errors import UpgradeError


@pytest_asyncio.fixture(params=DATABASES)
async def engine(request, tmp_path):
    async with opened(url_of(request.param, request, tmp_path)) as engine:
        yield engine


@pytest_asyncio.fixture
async def child(engine):
    """A table that refers to tokens, and goes with them: each has one row."""
    await add(engine, (1, "new", 2), (1, "old", 1))
    token_id = Column("token_id", ForeignKey(OLD.c.id, ondelete="CASCADE"))
    table = await made(engine, Column("id", Integer, primary_key=True), token_id)
    return table


async def refer(engine, child, *ids):
    rows = [{"token_id": number} for number in ids]
    await run(engine, lambda connection: connection.execute(insert(child), rows))


async def test_what_refers_to_a_duplicate(engine, child):
    """A row of the application's that would go with a duplicate stops it."""
    await refer(engine, child, 1, 2)
    assert (await refused(engine)).endswith(
        "odd.token_id refers to older rows of accounts that have several: id = 2. "
        "Let it refer to the newest ones, and run this again"
    )
    assert len(await tokens(engine)) == 2


async def test_what_refers_to_the_newest(engine, child):
    """Rows that refer to the newest row of an account are no hindrance."""
    await refer(engine, child, 1, None)
    await run(engine, lambda connection: upgrade(connection, OLD.name))
    assert await tokens(engine) == [("github", 1, "new")]
    query = select(child.c.token_id).order_by(child.c.id)
    assert await run(engine, lambda c: c.scalars(query).all()) == [1, None]


# SQLite has no foreign keys between files.
@pytest.mark.parametrize("engine", ["postgresql", "mariadb"], indirect=True)
async def test_what_refers_to_a_duplicate_from_elsewhere(engine):
    """A foreign key in another schema is seen as well."""
    await add(engine, (1, "new", 2), (1, "old", 1))
    name, home = f"{engine.url.database}_elsewhere", "public"
    kind, more = "SCHEMA", " CASCADE"
    if engine.dialect.name == "mysql":
        kind, more, home = "DATABASE", "", engine.url.database
    create = (
        f"CREATE TABLE {name}.odd (token_id INTEGER, "
        f"FOREIGN KEY (token_id) REFERENCES {home}.{OLD.name} (id) ON DELETE CASCADE)"
    )
    try:
        for statement in (
            f"CREATE {kind} {name}",
            create,
            f"INSERT INTO {name}.odd VALUES (2)",
        ):
            await run(engine, lambda c, s=statement: c.execute(text(s)))
        said = await refused(engine)
        assert said.startswith(f"{name}.odd.token_id refers to older rows")
    finally:
        await run(engine, lambda c: c.execute(text(f"DROP {kind} {name}{more}")))


@pytest.mark.parametrize(
    ("engine", "value"),
    [
        (kind, value)
        for kind in DATABASES
        for value in ("null", "[]", '"x"', "NULL", "invalid")
        if (kind, value) != ("postgresql", "invalid")  # it keeps none
    ],
    indirect=["engine"],
)
async def test_a_newest_row_without_a_token(engine, value):
    """Where the newest row holds no token, the older one may be the last that works."""
    kind = {"postgresql": "JSON", "mysql": "LONGTEXT", "sqlite": "JSON"}
    create = (
        "CREATE TABLE odd (id INTEGER PRIMARY KEY, provider VARCHAR(50), "
        f"token {kind[engine.dialect.name]})"
    )
    await run(engine, lambda connection: connection.execute(text(create)))
    add_one = text("INSERT INTO odd VALUES (:id, :provider, :token)")
    if engine.dialect.name == "postgresql":
        add_one = text("INSERT INTO odd VALUES (:id, :provider, CAST(:token AS JSON))")
    broken = None if value == "NULL" else value
    good = '{"access_token": "x"}'
    for row in (1, "a", broken), (2, "a", good), (3, "b", good), (4, "c", broken):
        values = dict(zip(("id", "provider", "token"), row, strict=True))
        await run(engine, lambda c, v=values: c.execute(add_one, v))
    again = {"id": 5, "provider": "b", "token": broken}
    await run(engine, lambda c: c.execute(add_one, again))
    assert await refused(engine, "odd") == (
        "the newest row of an account that has several holds no token: id = 5. Put "
        "one into it, or delete it, and run this again"
    )
    await run(engine, lambda c: c.execute(text("DELETE FROM odd WHERE id = 5")))
    assert (await run(engine, lambda c: upgrade(c, "odd"))).surplus[0].count == 1
    left = await run(engine, lambda c: c.execute(text("SELECT id FROM odd")).all())
    assert sorted(left) == [(2,), (3,), (4,)]


async def test_a_row_that_cannot_be_a_token_alone(engine):
    """A row that is the only one of its account stays, whatever is in it."""
    await add(engine, (1, "new", 2), (1, "old", 1))
    empty = {
        "provider": "google",
        "user_id": 1,
        "token": JSON.NULL,
        "created_at": START,
    }
    await run(engine, lambda connection: connection.execute(insert(OLD), [empty]))
    await run(engine, lambda connection: upgrade(connection, OLD.name))
    count = text(f"SELECT count(*) FROM {OLD.name}")
    assert await run(engine, lambda connection: connection.scalar(count)) == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_all_or_nothing(kind, request, tmp_path):
    """What a transaction rolls back has not happened."""
    async with opened(url_of(kind, request, tmp_path)) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        async with engine.connect() as connection:
            done = await connection.run_sync(upgrade, OLD.name)
            await connection.rollback()
        assert len(await tokens(engine)) == 2
        assert await run(engine, lambda c: upgrade(c, OLD.name)) == done


async def test_an_upgrade_that_was_broken_off(mariadb_url):
    """Where each statement is for good, a second run does what is left."""
    async with opened(mariadb_url) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        todo = (await run(engine, lambda c: upgrade(c, OLD.name))).statements
        for statement in (
            f"DROP TABLE {OLD.name}_lease",
            f"ALTER TABLE {OLD.name} DROP INDEX uq_{OLD.name}_provider_nobody",
        ):
            await run(engine, lambda c, s=statement: c.execute(text(s)))
        await add(engine, (None, "new", 2), (None, "old", 1))
        done = await run(engine, lambda c: upgrade(c, OLD.name))
        assert done.statements == todo[2:3] + todo[4:]
        assert await tokens(engine) == [("github", 1, "new"), ("github", None, "new")]


async def test_what_a_column_was_else(mariadb_url):
    """A column that is to be compared to the letter keeps what else was said of it."""
    async with opened(mariadb_url) as engine:
        table = "CHANGE provider provider VARCHAR(80) NOT NULL DEFAULT 'it''s:%s'"
        change = f"ALTER TABLE {OLD.name} {table} COMMENT '100 %: a provider'"
        await run(engine, lambda c: c.execute(text(change.replace(":", r"\:"))))

        def look(connection):
            return next(
                {**column, "type": str(column["type"]).partition(" ")[0]}
                for column in inspect(connection).get_columns(OLD.name)
                if column["name"] == "provider"
            )

        before = await run(engine, look)
        done = await run(engine, lambda connection: upgrade(connection, OLD.name))
        assert await run(engine, look) == before
        for kept in ("VARCHAR(80)", "NOT NULL", "DEFAULT 'it''s:%s'", "'100 %: a p"):
            assert kept in done.statements[0]
        assert before["type"] == "VARCHAR(80)" and "it''s:%s" in before["default"]


async def test_text_that_refers_to_text(mariadb_url):
    """A user column that cannot change without another one is not changed."""
    async with opened(mariadb_url) as engine:
        statements = (
            "CREATE TABLE person (name VARCHAR(50) PRIMARY KEY)",
            "CREATE TABLE odd (id INTEGER PRIMARY KEY, provider VARCHAR(50), "
            "token JSON, user_id VARCHAR(50), "
            "FOREIGN KEY (user_id) REFERENCES person (name))",
        )
        for statement in statements:
            await run(engine, lambda c, s=statement: c.execute(text(s)))
        with pytest.raises(UpgradeError, match="the database says: .*foreign key"):
            await run(engine, lambda connection: upgrade(connection, "odd"))
