"""The migration that the documentation shows, run by Alembic itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import pytest_asyncio
from blocks import Page
from old_tables import OLD, add, opened, run, tokens, url_of
from sqlalchemy import inspect, text

from quart_dance.consumer.storage.upgrade import Upgrade, plan

#: Alembic's own ways to set up a project, with a driver that each one can use.
PLACES = [
    ("sqlite", "generic", "sqlite"),
    ("sqlite", "async", "sqlite+aiosqlite"),
    ("postgresql", "generic", "postgresql+psycopg"),
    ("postgresql", "async", "postgresql+asyncpg"),
    ("mariadb", "generic", "mysql+pymysql"),
    ("mariadb", "async", "mysql+aiomysql"),
]


def alembic(folder, *command):
    """Run Alembic in a folder, as a process."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *command],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """Give a folder with the projects as Alembic makes them, and our migration."""
    folder = tmp_path_factory.mktemp("projects")
    code = "\n".join(Page("docs/storages.md").blocks["alembic"])
    for template in ("generic", "async"):
        (folder / template).mkdir()
        alembic(folder / template, "init", "--template", template, "migrations")
        file = folder / template / "migrations" / "versions" / "tokens.py"
        file.write_text(code)
    return folder


@pytest_asyncio.fixture
async def engine(request, tmp_path, projects):
    """Give a database with duplicates, and a project for it in the test's folder."""
    kind, template, driver = request.param
    shutil.copytree(projects / template, tmp_path, dirs_exist_ok=True)
    async with opened(url_of(kind, request, tmp_path)) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        url = engine.url.set(drivername=driver).render_as_string()
        config = tmp_path / "alembic.ini"
        own = config.read_text()
        config.write_text(own.replace("driver://user:pass@localhost/dbname", url))
        yield engine


def on(*places):
    return pytest.mark.parametrize("engine", places, ids="-".join, indirect=True)


async def revisions(engine):
    """Return the revisions that Alembic believes the database to have."""

    def look(connection):
        if not inspect(connection).has_table("alembic_version"):
            return []
        return connection.scalars(text("SELECT version_num FROM alembic_version")).all()

    return await run(engine, look)


@on(*PLACES)
async def test_migration(engine, tmp_path):
    """The migration upgrades the table, with every driver."""
    await migrate(engine, tmp_path, "upgrade", "head")
    assert len(await revisions(engine)) == 1


@on(PLACES[0])
async def test_migration_and_back(engine, tmp_path):
    """The migration can be taken back and done again; the table stays upgraded."""
    for command in ("upgrade head", "downgrade base", "upgrade head"):
        await migrate(engine, tmp_path, *command.split())
        assert len(await revisions(engine)) == (1 if "head" in command else 0)


async def migrate(engine, folder, *command):
    """Run Alembic; the table is upgraded then."""
    done = alembic(folder, *command)
    assert done.returncode == 0, done.stderr
    assert await tokens(engine) == [("github", 1, "new")]
    assert await run(engine, lambda c: plan(c, OLD.name)) == Upgrade()


@on(PLACES[0], PLACES[3], PLACES[4])
async def test_migration_that_is_refused(engine, tmp_path):
    """A table that cannot be upgraded is as it was, and so is its revision."""
    broken = text(f"UPDATE {OLD.name} SET token = 'null' WHERE id = 1")
    await run(engine, lambda connection: connection.execute(broken))
    done = alembic(tmp_path, "upgrade", "head")
    assert done.returncode != 0
    problem = "the newest row of an account that has several holds no token: id = 1. "
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"quart_dance.errors.UpgradeError: {problem}")
    count = text(f"SELECT count(*) FROM {OLD.name}")
    assert await run(engine, lambda connection: connection.scalar(count)) == 2
    assert await revisions(engine) == []


@on(PLACES[0])
async def test_offline(engine, tmp_path):
    """Without a database Alembic cannot write the SQL, and is told why."""
    done = alembic(tmp_path, "upgrade", "head", "--sql")
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    problem = "this needs a connection to a database, and got a MockConnection: "
    assert last.startswith(f"quart_dance.errors.UpgradeError: {problem}")
