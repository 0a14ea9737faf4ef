"""A real Flask-Dance that still writes to a table that has been upgraded, or not."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from types import SimpleNamespace

import pytest
from blocks import Page
from databases import GITHUB, token
from databases import OAuth as OurModel
from flask_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from old_tables import DATABASES, OLD, WAITING, opened, url_of
from sqlalchemy import Column, ForeignKey, Integer, create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, declarative_base
from sqlalchemy.pool import NullPool

from quart_dance.consumer.storage import NOBODY, sqla
from quart_dance.consumer.storage.upgrade import upgrade

# Flask-Dance asks for the time in a way that Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow")
DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
}
BLUEPRINT = SimpleNamespace(name="github", config={})
Base = declarative_base()


class User(Base):
    __tablename__ = "user"
    id = Column(Integer, primary_key=True)


class OAuth(OAuthConsumerMixin, Base):
    user_id = Column(ForeignKey(User.id))


class Pair:
    """A database with both libraries' storages; each call has its own connection."""

    def __init__(self, url):
        self.url = url
        target = create_async_engine(url).url
        self.kind = target.get_backend_name()
        self.engine = create_engine(
            target.set(drivername=DRIVERS[self.kind]), poolclass=NullPool
        )

    def theirs(self, verb, *args, user_id=None):
        """Call Flask-Dance's storage."""
        with Session(self.engine) as session:
            storage = SQLAlchemyStorage(OAuth, session)
            return getattr(storage, verb)(BLUEPRINT, *args, user_id=user_id)

    def ours(self, verb, *args, user_id=None):
        """Call ours."""

        async def call():
            engine = create_async_engine(self.url)
            storage = sqla.SQLAlchemyStorage(OurModel, engine)
            who = NOBODY if user_id is None else user_id
            try:
                return await getattr(storage, verb)(GITHUB, *args, user_id=who)
            finally:
                await engine.dispose()

        return asyncio.run(call())

    def count(self, query=f"SELECT count(*) FROM {OLD.name} WHERE user_id = 5"):
        with self.engine.connect() as connection:
            return connection.scalar(text(query))

    def at_once(self, second):
        """Log in with Flask-Dance; before its INSERT, somebody else begins to.

        That one ends first, or waits for the other. Return what each one raised.
        """
        with ThreadPoolExecutor() as pool:
            begun = []

            def begin(connection, cursor, statement, *_):
                if statement.startswith("INSERT") and not begun:
                    begun.append(pool.submit(second, "set", token("second"), user_id=5))
                    while not begun[0].done() and not self.somebody_waits():
                        time.sleep(0.15)  # MariaDB repeats its answers for a while

            event.listen(self.engine, "before_cursor_execute", begin)
            errors = [raised(self.theirs, "set", token("first"), user_id=5)]
            event.remove(self.engine, "before_cursor_execute", begin)
            return [*errors, raised(begun[0].result)]

    def somebody_waits(self):
        # In SQLite it cannot be seen; there whoever is late waits in any case.
        return self.kind == "sqlite" or self.count(WAITING[self.kind])


def raised(call, *args, **options):
    """Return the name of what a call raises, or None."""
    try:
        call(*args, **options)
    except Exception as error:
        return type(error).__name__
    return None


@pytest.fixture(params=DATABASES)
def pair(request, tmp_path):
    """Give a database with Flask-Dance's table."""
    url = url_of(request.param, request, tmp_path)

    async def make():
        async with opened(url):
            pass

    asyncio.run(make())
    return Pair(url)


def upgraded(pair):
    with pair.engine.begin() as connection:
        upgrade(connection, OLD.name)


@pytest.mark.parametrize("user_id", [1, None])
def test_one_after_the_other(pair, user_id):
    """Each library reads, replaces and deletes what the other one has stored."""
    pair.theirs("set", token("old"), user_id=user_id)
    upgraded(pair)
    mine = {"user_id": user_id}
    assert pair.ours("get", **mine) == token("old")
    pair.ours("set", token("ours"), **mine)
    assert pair.theirs("get", **mine) == token("ours")
    pair.theirs("set", token("theirs"), **mine)
    assert pair.ours("get", **mine) == token("theirs")
    pair.theirs("delete", **mine)
    assert pair.ours("get", **mine) is None
    pair.ours("set", token("ours again"), **mine)
    pair.ours("delete", **mine)
    assert pair.theirs("get", **mine) is None


#: What becomes of two logins of one account at once, where it is not just well: which
#: error one of the two meets (ours never does), and how many rows there are then.
OUTCOMES = {
    ("postgresql", "old", "first", "theirs"): (None, 2),
    ("postgresql", "old", "again", "theirs"): (None, 2),
    ("postgresql", "old", "first", "ours"): (None, 2),
    ("postgresql", "upgraded", "first", "theirs"): ("IntegrityError", 1),
    ("postgresql", "upgraded", "again", "theirs"): ("IntegrityError", 1),
    ("postgresql", "upgraded", "first", "ours"): ("IntegrityError", 1),
    ("mysql", "old", "first", "theirs"): ("OperationalError", 1),
    ("mysql", "upgraded", "first", "theirs"): ("OperationalError", 1),
    ("mysql", "old", "first", "ours"): (None, 2),
}


@pytest.mark.parametrize("login", ["first", "again"])
@pytest.mark.parametrize("table", ["old", "upgraded"])
@pytest.mark.parametrize("second", ["theirs", "ours"])
def test_logins_at_once(pair, login, table, second):
    """Flask-Dance's login and another one of that account, before and after."""
    if table == "upgraded":
        upgraded(pair)
    pair.theirs("set", token("another user's"), user_id=7)
    if login == "again":
        pair.theirs("set", token("old"), user_id=5)
    errors = pair.at_once(getattr(pair, second))
    error, rows = OUTCOMES.get((pair.kind, table, login, second), (None, 1))
    assert [name for name in errors if name] == ([error] if error else [])
    if second == "ours":
        assert errors[1] is None
    assert pair.count() == rows
    broken = raised(pair.theirs, "get", user_id=5)
    assert broken == ("MultipleResultsFound" if rows == 2 else None)
    assert pair.ours("get", user_id=5) in (token("first"), token("second"))


def test_documentation():
    """The page has this table."""
    text = Page("docs/storages.md").text
    for second, login in product(("theirs", "ours"), ("first", "again")):
        cells = [f"{second}, {login}"]
        for kind, table in product(("postgresql", "mysql"), ("old", "upgraded")):
            error, rows = OUTCOMES.get((kind, table, login, second), (None, 1))
            well = "two rows" if rows == 2 else "well"
            cells.append(f"`{error}`" if error else well)
        assert f"| {' | '.join(cells)} |" in text
    assert not any(kind == "sqlite" for kind, *_ in OUTCOMES)


def test_a_login_of_nobody(pair):
    """Without a user Flask-Dance deletes everybody's tokens, indexes or not."""
    upgraded(pair)
    pair.ours("set", token("x"), user_id=7)
    pair.theirs("set", token("nobody's"))
    assert pair.ours("get", user_id=7) is None
    assert pair.ours("get") == token("nobody's")


def test_a_refresh_that_flask_dance_overtakes(pair):
    """It takes no lease; what it stores meanwhile is not replaced by our refresh."""
    upgraded(pair)
    pair.ours("set", token("old"), user_id=5)

    async def refresh():
        engine = create_async_engine(pair.url)
        storage = sqla.SQLAlchemyStorage(OurModel, engine)
        async with storage.refresh_lock(GITHUB, user_id=5):
            pair.theirs("set", token("theirs"), user_id=5)
            new = token("ours")
            done = await storage.replace(GITHUB, token("old"), new, user_id=5)
        await engine.dispose()
        return done

    assert asyncio.run(refresh()) is False
    assert pair.ours("get", user_id=5) == token("theirs")
