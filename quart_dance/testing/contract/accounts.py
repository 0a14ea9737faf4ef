"""What a storage of users' tokens promises."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, ClassVar

import pytest

from ...consumer.storage.base import NOBODY
from .core import ONE, TWO, StorageContract, token_of


class AccountsContract(StorageContract):
    """The promises of a storage that keeps tokens for users.

    Its methods take ``user_id=``, where `NOBODY` means the account of no user. The
    ``storage`` fixture knows no user of its own::

        class TestVaultStorage(AccountsContract):
            user_ids = ("ada", "bob", "0")

    Attributes:
        user_ids: Ids of three users. Without a reason against it, one is 0: a real id,
            though false.
    """

    user_ids: ClassVar[Sequence[Any]] = (1, 0, 42)

    # A storage may refuse to work for nobody in particular.
    @property
    def who(self) -> Mapping[str, Any]:
        return {"user_id": self.user_ids[0]}

    async def test_accounts_never_meet(self, storage: Any) -> None:
        """What is done to one account, nobody's included, reaches no other one."""
        everybody = (*self.user_ids, NOBODY)
        for one, other in permutations(everybody, 2):
            await storage.set(ONE, token_of("one"), user_id=one)
            assert await storage.get(ONE, user_id=other) is None
            assert not await storage.replace(ONE, token_of("one"), None, user_id=other)
            await storage.set(ONE, token_of("other"), user_id=other)
            assert await storage.get(ONE, user_id=one) == token_of("one")
            await storage.delete(ONE, user_id=other)
            await storage.delete(ONE, user_id=other)
            assert await storage.get(ONE, user_id=one) == token_of("one")
            await storage.delete(ONE, user_id=one)

    async def test_everybody_has_a_token(self, storage: Any) -> None:
        """All accounts keep their tokens at the same time, with every provider."""
        everybody = (*self.user_ids, NOBODY)
        mine = {
            (blueprint, n): token_of(f"{blueprint.name}{n}")
            for blueprint in (ONE, TWO)
            for n in range(len(everybody))
        }
        await asyncio.gather(
            *(storage.set(b, t, user_id=everybody[n]) for (b, n), t in mine.items())
        )
        for (blueprint, n), token in mine.items():
            assert await storage.get(blueprint, user_id=everybody[n]) == token

    async def test_accounts_have_names(self, storage: Any) -> None:
        """Each user's account has a name of its own; only nobody's is None."""
        names = [await storage.account(ONE, user_id=user) for user in self.user_ids]
        assert all(isinstance(name, str) and name for name in names)
        assert len(set(names)) == len(self.user_ids)
        assert await storage.account(ONE, user_id=NOBODY) is None

    async def test_named_leads_back_to_an_account(self, storage: Any) -> None:
        """A refresh keeps to its account, nobody's too, by what `named` returns."""
        for user_id in (*self.user_ids, NOBODY):
            account = await storage.account(ONE, user_id=user_id)
            who = storage.named(account)
            assert who and None not in who.values(), "None names nobody in particular"
            assert await storage.account(ONE, **who) == account
            await storage.set(ONE, token_of("x"), user_id=user_id)
            assert await storage.get(ONE, **who) == token_of("x")
            assert await storage.replace(ONE, token_of("x"), None, **who)
            assert await storage.get(ONE, user_id=user_id) is None

    async def test_an_empty_id_is_refused(self, storage: Any) -> None:
        """An empty id is a mistake, and never means nobody."""
        await storage.set(ONE, token_of("x"), user_id=NOBODY)
        for method, *given in (
            (storage.account,),
            (storage.get,),
            (storage.reread,),
            (storage.set, token_of("y")),
            (storage.delete,),
            (storage.replace, token_of("x"), None),
        ):
            with pytest.raises(ValueError):
                await method(ONE, *given, user_id="")
        assert await storage.get(ONE, user_id=NOBODY) == token_of("x")

    async def test_refresh_lock_is_each_accounts_own(self, storage: Any) -> None:
        """Whoever refreshes one account holds up no other one."""
        first, second, *_ = self.user_ids
        async with asyncio.timeout(10), storage.refresh_lock(ONE, user_id=first):
            async with storage.refresh_lock(ONE, user_id=second):
                async with storage.refresh_lock(ONE, user_id=NOBODY):
                    pass

    async def test_refresh_lock_lets_everybody_work(self, storage: Any) -> None:
        """Whoever refreshes, for nobody in particular too, can write meanwhile."""
        for user_id in (*self.user_ids, NOBODY):
            await storage.set(ONE, token_of("old"), user_id=user_id)
            async with asyncio.timeout(10), storage.refresh_lock(ONE, user_id=user_id):
                assert await storage.replace(
                    ONE, token_of("old"), token_of("new"), user_id=user_id
                )
                await storage.set(ONE, token_of("other"), user_id=user_id)
                await storage.delete(ONE, user_id=user_id)
