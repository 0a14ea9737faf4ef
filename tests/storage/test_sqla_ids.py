"""Ids: exactly what the column holds, or refused."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest
import pytest_asyncio
from databases import GITHUB, database, execute, token
from sqlalchemy import LargeBinary, Numeric, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage


class Base(DeclarativeBase):
    pass


class OfInteger(OAuthConsumerMixin, Base):
    user_id: Mapped[int | None]


class OfString(OAuthConsumerMixin, Base):
    user_id: Mapped[str | None]


class OfUuid(OAuthConsumerMixin, Base):
    user_id: Mapped[UUID | None] = mapped_column(Uuid)


class OfBytes(OAuthConsumerMixin, Base):
    user_id: Mapped[bytes | None] = mapped_column(LargeBinary(16))


class OfDecimals(OAuthConsumerMixin, Base):
    user_id: Mapped[Decimal | None] = mapped_column(Numeric(20, 0))


class OfNobody(OAuthConsumerMixin, Base):
    pass


ONE = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


@pytest_asyncio.fixture
async def engine(tmp_path):
    async with database(tmp_path / "tokens.db", Base) as engine:
        yield engine


@pytest.mark.parametrize(
    ("model", "user_id", "stored", "same"),
    [
        (OfInteger, 0, 0, "0"),
        (OfInteger, "0", 0, 0),
        (OfInteger, 42, 42, "42"),
        (OfInteger, "42", 42, 42),
        (OfInteger, -7, -7, "-7"),
        (OfString, "0", "0", 0),
        (OfString, 0, "0", "0"),
        (OfString, "42", "42", 42),
        (OfString, "4_2", "4_2", "4_2"),
        (OfString, " 42", " 42", " 42"),
        (OfString, "ÄDA", "ÄDA", "ÄDA"),
        (OfString, ONE, str(ONE), str(ONE)),
        (OfUuid, ONE, ONE.hex, str(ONE)),
        (OfUuid, str(ONE), ONE.hex, ONE),
        (OfUuid, UUID(int=0), "0" * 32, str(UUID(int=0))),
        (OfBytes, ONE.bytes, ONE.bytes, ONE.hex),
        (OfBytes, ONE.hex, ONE.bytes, ONE.bytes),
    ],
)
async def test_ids(engine, model, user_id, stored, same):
    """S7: 0, "0", text for an integer and UUIDs are real ids, in the column's type."""
    storage = SQLAlchemyStorage(model, engine)
    await storage.set(GITHUB, token("x"), user_id=user_id)
    column = await execute(engine, f"SELECT user_id FROM {model.__tablename__}")
    assert column == [(stored,)]
    assert await storage.get(GITHUB, user_id=same) == token("x")
    assert await storage.get(GITHUB) is None
    account = await storage.account(GITHUB, user_id=user_id)
    assert await storage.get(GITHUB, **storage.named(account)) == token("x")
    await storage.delete(GITHUB, user_id=same)
    assert await storage.get(GITHUB, user_id=user_id) is None


@pytest.mark.parametrize(
    ("model", "user_id"),
    [
        *((OfInteger, u) for u in ("", "4_2", " 42", "42 ", "4.2", "0x2a", "042")),
        *((OfInteger, u) for u in ("٤٢", "+42", "-0", "42\n", "ada", b"42")),
        *((OfInteger, u) for u in (True, False, 1.5, 42.0, ONE, [42])),
        *((OfString, u) for u in ("", True, 1.5, b"42", ["a"])),
        *((OfUuid, u) for u in ("", "ada", 42, True, 0, b"0" * 16)),
        *((OfBytes, u) for u in ("", "ada", 42, True, ONE)),
    ],
)
async def test_what_is_no_id(engine, model, user_id):
    """S7: What is not exactly an id of the column's type is refused, and never 0."""
    storage = SQLAlchemyStorage(model, engine)
    await storage.set(GITHUB, token("nobody's"))
    for call in (
        storage.account(GITHUB, user_id=user_id),
        storage.get(GITHUB, user_id=user_id),
        storage.set(GITHUB, token("x"), user_id=user_id),
        storage.delete(GITHUB, user_id=user_id),
        storage.replace(GITHUB, token("nobody's"), None, user_id=user_id),
    ):
        with pytest.raises(ValueError) as raised:
            await call
        assert "ada" not in str(raised.value)
    assert await storage.get(GITHUB) == token("nobody's")


async def test_a_column_of_no_known_kind(engine):
    """Ids that an account's name does not come back to are refused before a login."""
    storage = SQLAlchemyStorage(OfDecimals, engine)
    with pytest.raises(TypeError, match="holds Decimal; known are int, str, UUID"):
        await storage.set(GITHUB, token("x"), user_id=Decimal(5))


@pytest.mark.parametrize("user_id", [1, 0, "ada"])
async def test_a_model_without_users_takes_no_id(engine, user_id):
    """Where there is no column for users, naming one is an error."""
    storage = SQLAlchemyStorage(OfNobody, engine)
    with pytest.raises(TypeError, match="OfNobody has no user"):
        await storage.set(GITHUB, token("x"), user_id=user_id)
    assert await storage.get(GITHUB) is None
