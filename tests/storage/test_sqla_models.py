"""Models as applications have them: other keys, other columns, no mixin."""

from __future__ import annotations

import asyncio
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from databases import GITHUB, database, execute, token
from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    String,
    Uuid,
    func,
    inspect,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    foreign,
    mapped_column,
    relationship,
)

from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.errors import UserRequiredError


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[UUID | None] = mapped_column(Uuid, unique=True)


class Tenant(Base):
    __tablename__ = "tenant"
    id: Mapped[int] = mapped_column(primary_key=True)


class CompositeKey(Base):
    __tablename__ = "composite"
    provider: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[dict[str, object]] = mapped_column(JSON)


class UuidKey(Base):
    __tablename__ = "uuids"
    key: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    provider: Mapped[str]
    user_id: Mapped[str | None]
    token: Mapped[dict[str, object]] = mapped_column(JSON)


class StringKey(OAuthConsumerMixin, Base):
    id: Mapped[str] = mapped_column(  # type: ignore[assignment]
        String, primary_key=True, default=lambda: uuid4().hex
    )
    user_id: Mapped[str | None]


class RenamedColumns(Base):
    __tablename__ = "renamed"
    id: Mapped[int] = mapped_column("row", primary_key=True)
    provider: Mapped[str] = mapped_column("service")
    user_id: Mapped[str | None] = mapped_column("owner")
    token: Mapped[dict[str, object]] = mapped_column("data", JSON)
    created_at: Mapped[datetime] = mapped_column("made", default=func.now())


class ExtraColumns(OAuthConsumerMixin, Base):
    __tablename__ = "extra"
    __table_args__ = (CheckConstraint("visits >= 0", name="visits"), {"comment": "x"})
    user_id: Mapped[str | None]
    visits: Mapped[int] = mapped_column(default=0)
    made_by: Mapped[str] = mapped_column(server_default="somebody")
    note: Mapped[str | None]


class TwoForeignKeys(OAuthConsumerMixin, Base):
    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id))
    tenant_id: Mapped[int | None] = mapped_column(ForeignKey(Tenant.id))
    user: Mapped[User | None] = relationship()


class Owned(OAuthConsumerMixin, Base):
    owner_id: Mapped[int | None] = mapped_column(ForeignKey(User.id))
    user: Mapped[User | None] = relationship()


class OwnedInTenant(OAuthConsumerMixin, Base):
    owner_id: Mapped[int | None] = mapped_column(ForeignKey(User.id))
    tenant_id: Mapped[int | None] = mapped_column(ForeignKey(Tenant.id))
    user: Mapped[User | None] = relationship()


class OwnedWithoutForeignKey(OAuthConsumerMixin, Base):
    owner_id: Mapped[int | None]
    user: Mapped[User | None] = relationship(
        primaryjoin=lambda: foreign(OwnedWithoutForeignKey.owner_id) == User.id
    )


class Misleading(OAuthConsumerMixin, Base):
    """The relationship counts, not the column that only looks like it."""

    user_id: Mapped[str | None]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey(User.id))
    user: Mapped[User | None] = relationship()


class OwnedByUuid(OAuthConsumerMixin, Base):
    user_uuid: Mapped[UUID | None] = mapped_column(ForeignKey(User.uuid))
    user: Mapped[User | None] = relationship()


class Member(Base):
    __tablename__ = "member"
    tenant: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class OwnedByMember(OAuthConsumerMixin, Base):
    tenant: Mapped[int | None]
    number: Mapped[int | None]
    user: Mapped[Member | None] = relationship()
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "number"], [Member.tenant, Member.number]),
    )


MODELS = [
    CompositeKey,
    UuidKey,
    StringKey,
    RenamedColumns,
    ExtraColumns,
    TwoForeignKeys,
    Owned,
    OwnedInTenant,
    OwnedWithoutForeignKey,
    Misleading,
]


@pytest.mark.parametrize("model", MODELS)
async def test_model(tmp_path, model):
    """Each account has one row, whatever else the model has."""
    async with database(tmp_path / "tokens.db", Base) as engine:
        storage = SQLAlchemyStorage(model, engine)
        for name in ("old", "new"):
            await storage.set(GITHUB, token(f"{name} 1"), user_id=1)
            await storage.set(GITHUB, token(f"{name} 2"), user_id="2")
        assert await storage.get(GITHUB, user_id="1") == token("new 1")
        assert await storage.get(GITHUB, user_id=2) == token("new 2")
        count = f"SELECT count(*) FROM {model.__tablename__}"
        assert await execute(engine, count) == [(2,)]
        assert await storage.replace(GITHUB, token("new 1"), token("x"), user_id=1)
        assert await storage.get(GITHUB, user_id=1) == token("x")
        await storage.delete(GITHUB, user_id=1)
        assert await storage.replace(GITHUB, token("new 2"), None, user_id=2)
        assert await execute(engine, count) == [(0,)]


@pytest.mark.parametrize("model", MODELS)
async def test_many_first_logins(tmp_path, model):
    """S6: First logins at once, of one account and of many, make a row each."""
    async with database(tmp_path / "tokens.db", Base) as engine:
        storage = SQLAlchemyStorage(model, engine)
        users = [1] * 10 + list(range(2, 8))
        await asyncio.gather(
            *(storage.set(GITHUB, token("x"), user_id=user) for user in users)
        )
        count = f"SELECT count(*) FROM {model.__tablename__}"
        assert await execute(engine, count) == [(7,)]


@pytest.mark.parametrize("model", [m for m in MODELS if m is not CompositeKey])
async def test_nobody_beside_users(tmp_path, model):
    """S6: Nobody has one row beside those of the users."""
    async with database(tmp_path / "tokens.db", Base) as engine:
        storage = SQLAlchemyStorage(model, engine)
        await storage.set(GITHUB, token("1"), user_id=1)
        await asyncio.gather(*(storage.set(GITHUB, token("shared")) for _ in range(5)))
        count = f"SELECT count(*) FROM {model.__tablename__}"
        assert await execute(engine, count) == [(2,)]
        await storage.delete(GITHUB)
        assert await storage.get(GITHUB) is None
        assert await storage.get(GITHUB, user_id=1) == token("1")


async def test_extra_columns_survive(tmp_path):
    """What an application keeps in the row is there after set and replace."""
    async with database(tmp_path / "tokens.db", Base) as engine:
        storage = SQLAlchemyStorage(ExtraColumns, engine)
        await storage.set(GITHUB, token("a"), user_id="ada")
        found = "SELECT id, visits, made_by, note FROM extra"
        assert await execute(engine, found) == [(1, 0, "somebody", None)]
        await execute(engine, "UPDATE extra SET visits = 7, note = 'vip'")
        await storage.set(GITHUB, token("b"), user_id="ada")
        await storage.replace(GITHUB, token("b"), token("c"), user_id="ada")
        assert await execute(engine, found) == [(1, 7, "somebody", "vip")]
        assert await storage.get(GITHUB, user_id="ada") == token("c")


async def test_own_table_args_stay(tmp_path):
    """A model's `__table_args__` are kept beside our indexes."""
    async with database(tmp_path / "tokens.db", Base) as engine:

        def look(connection):
            found = inspect(connection)
            names = {index["name"] for index in found.get_indexes("extra")}
            checks = {check["name"] for check in found.get_check_constraints("extra")}
            return names, checks

        async with engine.connect() as connection:
            assert await connection.run_sync(look) == (
                {"uq_extra_provider_user", "uq_extra_provider_nobody"},
                {"visits"},
            )
    assert ExtraColumns.__table__.comment == "x"


async def test_the_orm_sees_what_we_store(tmp_path):
    """The application may read the rows through its own session."""
    async with database(tmp_path / "tokens.db", Base) as engine:
        async with AsyncSession(engine) as session:
            ada = User(id=1)
            session.add(ada)
            await session.commit()
            storage = SQLAlchemyStorage(Owned, session, user=ada)
            await storage.set(GITHUB, token("x"))
            row = await session.scalar(select(Owned))
            assert row.token == token("x") and row.owner_id == 1
            assert repr(row) == "<Owned id=1 provider='github'>"
            row.token["scope"] = "changed through the mixin's MutableDict"
            await session.commit()
            got = await storage.get(GITHUB)
            assert got["scope"] == "changed through the mixin's MutableDict"


async def test_a_user_by_another_column(tmp_path):
    """A relationship over user.uuid files the token under that, not under user.id."""
    one = UUID(int=1)
    async with database(tmp_path / "tokens.db", Base) as engine:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            ada = User(id=7, uuid=one)
            session.add(ada)
            await session.commit()
        storage = SQLAlchemyStorage(OwnedByUuid, engine, user=ada)
        await storage.set(GITHUB, token("x"))
        found = "SELECT user_uuid FROM flask_dance_ownedbyuuid"
        assert await execute(engine, found) == [(one.hex,)]
        assert await storage.account(GITHUB) == str(one)
        assert await storage.get(GITHUB, user_id=one) == token("x")


async def test_a_user_without_that_column_is_not_nobody(tmp_path):
    """A user whose uuid is missing is refused; nobody's token is not theirs."""
    async with database(tmp_path / "tokens.db", Base) as engine:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            ada = User(id=7, uuid=None)
            session.add(ada)
            await session.commit()
        shared = SQLAlchemyStorage(OwnedByUuid, engine)
        await shared.set(GITHUB, token("shared"))
        storage = SQLAlchemyStorage(OwnedByUuid, engine, user=ada, user_required=False)
        for call in (storage.get(GITHUB), storage.delete(GITHUB)):
            with pytest.raises(UserRequiredError, match="User has no uuid"):
                await call
        assert await shared.get(GITHUB) == token("shared")


@pytest.mark.parametrize("state", ["expired", "detached"])
async def test_a_user_whose_column_is_not_loaded(tmp_path, state):
    """Where the uuid would have to be loaded, the error says what to pass instead."""
    async with database(tmp_path / "tokens.db", Base) as engine:
        async with AsyncSession(engine) as session:
            ada = User(id=7, uuid=UUID(int=1))
            session.add(ada)
            await session.commit()
            if state == "detached":
                session.expunge(ada)
            storage = SQLAlchemyStorage(OwnedByUuid, session, user=ada)
            with pytest.raises(ValueError, match="user_id="):
                await storage.get(GITHUB)


async def test_a_user_of_several_columns_is_refused(tmp_path):
    """A user whose key has two columns is refused: by one of them users would meet."""
    async with database(tmp_path / "tokens.db", Base) as engine:
        storage = SQLAlchemyStorage(OwnedByMember, engine)
        with pytest.raises(TypeError, match="one column"):
            await storage.set(GITHUB, token("x"), user_id=1)


@pytest.mark.parametrize("model", [User, Tenant])
async def test_a_model_without_a_token_is_refused(model):
    """A model without a token or a provider is refused, with what to do."""
    storage = SQLAlchemyStorage(model, AsyncSession())
    with pytest.raises(TypeError, match="needs the columns 'provider' and 'token'"):
        await storage.set(GITHUB, token("x"), user_id=1)
