"""Accounts and tokens that MariaDB by itself takes for one another."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytest_asyncio
from databases import GITHUB, token
from sqlalchemy import JSON, String
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.errors import StorageError

#: By the usual collation they are all the same.
IDS = ["ada", "Ada", "àda"]


class Base(DeclarativeBase):
    """The tables of these tests."""


class OAuth(OAuthConsumerMixin, Base):
    """The ids are compared by the letter, so that our indexes tell them apart."""

    user_id: Mapped[str | None] = mapped_column(
        mysql.VARCHAR(50, collation="utf8mb4_bin")
    )


class LooseOAuth(OAuthConsumerMixin, Base):
    """There are our indexes, and the ids are compared as the database likes."""

    user_id: Mapped[str | None] = mapped_column(String(50))


class OldBase(DeclarativeBase):
    """The table as Flask-Dance made it."""


class OldOAuth(OldBase):
    """Nothing is compared but as the database likes, and there are no indexes."""

    __tablename__ = "flask_dance_oauth"
    id: Mapped[int] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(String(50))
    user_id: Mapped[str | None] = mapped_column(String(50))
    token: Mapped[dict[str, object]] = mapped_column(JSON)


@pytest_asyncio.fixture(params=[OAuth, OldOAuth])
async def storage(request, mariadb_url):
    """Give a storage in MariaDB."""
    engine = create_async_engine(mariadb_url)
    async with engine.begin() as connection:
        await connection.run_sync(request.param.metadata.create_all)
    yield SQLAlchemyStorage(request.param, engine)
    await engine.dispose()


async def test_accounts_never_meet(storage):
    """S7: ids and providers that differ in case or accent are different."""
    accounts = [
        (SimpleNamespace(name=name), user_id)
        for name in ("dev", "Dev", "dèv")
        for user_id in (*IDS, NOBODY)
    ]
    left = {}
    for number, (owner, user_id) in enumerate(accounts):
        left[number] = token(f"{number}")
        await storage.set(owner, left[number], user_id=user_id)
    while left:
        for number, (owner, user_id) in enumerate(accounts):
            assert await storage.get(owner, user_id=user_id) == left.get(number)
        number, old = left.popitem()
        owner, user_id = accounts[number]
        assert await storage.replace(owner, old, token("new"), user_id=user_id)
        await storage.delete(owner, user_id=user_id)


async def test_no_id_ends_with_a_space(storage):
    """S7: an id that an index takes for another one's is refused, before it does."""
    await storage.set(GITHUB, token("ada's"), user_id="ada")
    for method, *given in (
        (storage.get,),
        (storage.set, token("not ada's")),
        (storage.delete,),
        (storage.replace, token("ada's"), None),
    ):
        with pytest.raises(ValueError, match="may end with a space"):
            await method(GITHUB, *given, user_id="ada ")
    assert await storage.get(GITHUB, user_id="ada") == token("ada's")


@pytest.mark.parametrize("storage", [LooseOAuth], indirect=True)
async def test_an_index_that_takes_one_for_another(storage):
    """S7: where an index takes an account for another one's, it gets no token."""
    await storage.set(GITHUB, token("ada's"), user_id="ada")
    with pytest.raises(StorageError, match="Duplicate entry"):
        await storage.set(GITHUB, token("Ada's"), user_id="Ada")
    assert await storage.get(GITHUB, user_id="ada") == token("ada's")
    assert await storage.get(GITHUB, user_id="Ada") is None
