"""What every token storage promises."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from ...consumer import OAuth2ConsumerBlueprint
from ...consumer.storage.base import BaseStorage
from ...errors import OAuthError

ONE = OAuth2ConsumerBlueprint("one", __name__)
TWO = OAuth2ConsumerBlueprint("two", __name__)

TOKENS: dict[str, dict[str, Any]] = {
    "the usual": {
        "access_token": "ya29.a0AfH6SM",
        "token_type": "Bearer",
        "refresh_token": "1//0gJ",
        "expires_in": 3600,
        "expires_at": 4_000_000_000,
        "scope": "openid profile",
    },
    "the least": {"access_token": "x"},
    "nested": {"access_token": "x", "team": {"ids": [1, [2, {"deep": []}]], "of": {}}},
    "numbers": {"access_token": "x", "n": [0, -1, 1.5, -2.25, 2**53, 1e-7]},
    "constants": {"access_token": "x", "null": None, "yes": True, "no": False},
    "unicode": {
        "access_token": "x",
        "näme": "Grüße, 東京 \U0001f600 \u2028",
        "quotes": "'\"\\/%s {bp.name} $1 --\r\n\t",
        "empty": "",
    },
}


class StorageContract:
    """The promises of every storage.

    A subclass gives a fixture ``storage`` that returns a new, empty storage for each
    test; an async one must be made with `pytest_asyncio.fixture`. Where that needs a
    loop of its own scope, so do the tests::

        class TestVaultStorage(StorageContract):
            pytestmark = pytest.mark.asyncio(loop_scope="module")

    Attributes:
        who: The account that all tests but those of `AccountsContract` use, as the
            storage's methods take it; empty where the storage knows by itself.
        longest: The length in characters of the longest access token that is tried.
    """

    pytestmark: ClassVar[list[pytest.MarkDecorator]]
    longest: ClassVar[int] = 8192

    @property
    def who(self) -> Mapping[str, Any]:
        return {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Mark the tests for pytest-asyncio, unless the subclass does."""
        super().__init_subclass__(**kwargs)
        marks = cls.__dict__.get("pytestmark", [])
        marks = marks if isinstance(marks, list) else [marks]
        # Not on our own classes: of two marks pytest takes that of the base class.
        if cls.__module__.startswith(f"{__package__}."):
            return
        if not any(mark.name == "asyncio" for mark in marks):
            cls.pytestmark = [*marks, pytest.mark.asyncio]

    async def test_missing_is_none(self, storage: BaseStorage) -> None:
        """Where nothing was set there is None."""
        assert await storage.get(ONE, **self.who) is None
        assert await storage.reread(ONE, **self.who) is None

    @pytest.mark.parametrize("token", TOKENS.values(), ids=list(TOKENS))
    async def test_what_was_set_comes_back(
        self, storage: BaseStorage, token: dict[str, Any]
    ) -> None:
        """What was set comes back equal, of the same types, at every reading."""
        await storage.set(ONE, token, **self.who)
        for _ in range(2):
            got = await storage.get(ONE, **self.who)
            assert _text(got) == _text(token), "it comes back changed"
        assert await storage.reread(ONE, **self.who) == token

    async def test_a_long_token_comes_back(self, storage: BaseStorage) -> None:
        """No token is cut off: providers issue some of several kilobytes."""
        token = {"access_token": secrets.token_hex(self.longest // 2)}
        await storage.set(ONE, token, **self.who)
        assert await storage.get(ONE, **self.who) == token

    async def test_set_replaces(self, storage: BaseStorage) -> None:
        """The token that is set takes the place of the old one; nothing is merged."""
        await storage.set(ONE, token_of("old", refresh_token="r"), **self.who)
        assert await storage.get(ONE, **self.who) == token_of("old", refresh_token="r")
        await storage.set(ONE, token_of("new"), **self.who)
        assert await storage.get(ONE, **self.who) == token_of("new")
        await storage.delete(ONE, **self.who)
        assert await storage.get(ONE, **self.who) is None, "an older token came back"

    async def test_delete_twice(self, storage: BaseStorage) -> None:
        """What was deleted is gone; there may be nothing to delete."""
        await storage.delete(ONE, **self.who)
        await storage.set(ONE, token_of("x"), **self.who)
        await storage.delete(ONE, **self.who)
        await storage.delete(ONE, **self.who)
        assert await storage.get(ONE, **self.who) is None
        await storage.set(ONE, token_of("again"), **self.who)
        assert await storage.get(ONE, **self.who) == token_of("again")

    async def test_providers_never_meet(self, storage: BaseStorage) -> None:
        """Each blueprint has a token of its own."""
        await storage.set(ONE, token_of("first"), **self.who)
        assert await storage.get(TWO, **self.who) is None
        await storage.set(TWO, token_of("second"), **self.who)
        assert await storage.get(ONE, **self.who) == token_of("first")
        assert not await storage.replace(TWO, token_of("first"), None, **self.who)
        await storage.delete(ONE, **self.who)
        assert await storage.get(TWO, **self.who) == token_of("second")

    async def test_what_was_passed_is_copied(self, storage: BaseStorage) -> None:
        """A caller that keeps what it passed cannot change what is stored."""
        for save in (self._set, self._replace):
            token = token_of("x", scope=["a"])
            await save(storage, token)
            assert token == token_of("x", scope=["a"]), "the caller's dict was changed"
            token["scope"].append("admin")
            token["access_token"] = "other"
            got = await storage.get(ONE, **self.who)
            assert got == token_of("x", scope=["a"]), "the caller's dict is kept"

    async def test_what_is_returned_is_a_copy(self, storage: BaseStorage) -> None:
        """What is done to a token that was read does not reach the stored one."""
        await storage.set(ONE, token_of("x", scope=["a"]), **self.who)
        for read in (storage.get, storage.get, storage.reread):
            got = await read(ONE, **self.who)
            assert got == token_of("x", scope=["a"]), (
                "somebody else's copy is handed out"
            )
            got["scope"].append("admin")
            got["access_token"] = "other"

    async def test_concurrent_sets(self, storage: BaseStorage) -> None:
        """Of sets at the same time one remains, and none of them fails."""
        tokens = [token_of(f"t{n}") for n in range(20)]
        for _ in range(2):  # the first time there is nothing to replace
            await asyncio.gather(*(storage.set(ONE, t, **self.who) for t in tokens))
            assert await storage.get(ONE, **self.who) in tokens
        await storage.delete(ONE, **self.who)
        assert await storage.get(ONE, **self.who) is None, "two of them were kept"

    async def test_sets_and_deletes_at_once(self, storage: BaseStorage) -> None:
        """Sets, deletes and reads at the same time disturb each other in no way."""
        await asyncio.gather(
            *(storage.set(ONE, token_of("x"), **self.who) for _ in range(7)),
            *(storage.delete(ONE, **self.who) for _ in range(7)),
            *(storage.get(ONE, **self.who) for _ in range(7)),
        )
        assert await storage.get(ONE, **self.who) in (None, token_of("x"))

    async def test_a_failed_set_leaves_the_old_token(
        self, storage: BaseStorage
    ) -> None:
        """A token that JSON cannot express is refused, and the old one stays."""
        await storage.set(ONE, token_of("old"), **self.who)
        with pytest.raises((TypeError, ValueError, OAuthError)):
            await storage.set(ONE, token_of("new", what={1, 2}), **self.who)
        assert await storage.get(ONE, **self.who) == token_of("old")
        assert await storage.reread(ONE, **self.who) == token_of("old")

    async def test_replace_compares(self, storage: BaseStorage) -> None:
        """A token is replaced, or deleted, only if it is still the stored one."""
        replace = storage.replace
        assert await replace(ONE, token_of("old"), token_of("new"), **self.who) is False
        assert await storage.get(ONE, **self.who) is None, "it was stored all the same"
        await storage.set(ONE, token_of("old", scope="a"), **self.who)
        for wrong in (token_of("other"), token_of("old"), token_of("old", scope="b")):
            assert await replace(ONE, wrong, token_of("new"), **self.who) is False
            assert await replace(ONE, wrong, None, **self.who) is False
        assert await storage.get(ONE, **self.who) == token_of("old", scope="a")

    async def test_replace_replaces(self, storage: BaseStorage) -> None:
        """If the old token is the stored one, the new one takes its place."""
        replace = storage.replace
        await storage.set(ONE, TOKENS["unicode"], **self.who)
        new = TOKENS["numbers"]
        assert await replace(ONE, TOKENS["unicode"], new, **self.who) is True
        assert await storage.get(ONE, **self.who) == new
        assert await replace(ONE, new, None, **self.who) is True
        assert await storage.get(ONE, **self.who) is None, "an older token came back"
        assert await replace(ONE, new, None, **self.who) is False

    async def test_one_of_many_replaces_wins(self, storage: BaseStorage) -> None:
        """Of many who replace one token exactly one is told that it did."""
        for round_ in range(3):
            old = token_of(f"old{round_}")
            await storage.set(ONE, old, **self.who)
            new = [token_of(f"new{round_}.{n}") for n in range(20)]
            won = await asyncio.gather(
                *(storage.replace(ONE, old, token, **self.who) for token in new)
            )
            assert won.count(True) == 1, f"{won.count(True)} of 20 were told so"
            assert await storage.get(ONE, **self.who) == new[won.index(True)]

    async def test_refresh_lock_excludes(self, storage: BaseStorage) -> None:
        """One at a time holds the refresh lock of an account."""
        inside = most = 0

        async def refresh() -> None:
            nonlocal inside, most
            async with storage.refresh_lock(ONE, **self.who):
                inside += 1
                most = max(most, inside)
                await storage.reread(ONE, **self.who)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.wait_for(asyncio.gather(*(refresh() for _ in range(10))), 60)
        assert most == 1, f"{most} held it at once"

    async def test_refresh_lock_is_each_providers_own(
        self, storage: BaseStorage
    ) -> None:
        """Whoever refreshes at one provider holds up nobody at another one."""
        async with asyncio.timeout(10), storage.refresh_lock(ONE, **self.who):
            async with storage.refresh_lock(TWO, **self.who):
                pass

    async def test_refresh_lock_is_given_back(self, storage: BaseStorage) -> None:
        """A holder who fails or is cancelled gives the lock back."""
        with pytest.raises(KeyError):
            async with storage.refresh_lock(ONE, **self.who):
                raise KeyError
        held = asyncio.Event()

        async def hold() -> None:
            async with storage.refresh_lock(ONE, **self.who):
                held.set()
                await asyncio.Event().wait()

        holder = asyncio.create_task(hold())
        await held.wait()
        waiter = asyncio.create_task(hold())
        await asyncio.sleep(0)
        for task in (waiter, holder):
            task.cancel()
        await asyncio.wait({holder, waiter})
        async with asyncio.timeout(10), storage.refresh_lock(ONE, **self.who):
            pass

    async def test_refresh_lock_lets_its_holder_work(
        self, storage: BaseStorage
    ) -> None:
        """Whoever holds the refresh lock can read, replace and delete."""
        await storage.set(ONE, token_of("old"), **self.who)
        async with asyncio.timeout(10), storage.refresh_lock(ONE, **self.who):
            assert await storage.reread(ONE, **self.who) == token_of("old")
            assert await storage.replace(
                ONE, token_of("old"), token_of("new"), **self.who
            )
            await storage.set(ONE, token_of("other"), **self.who)
            await storage.delete(ONE, **self.who)

    async def test_can_save(self, storage: BaseStorage) -> None:
        """Where it says that it can save, it can."""
        assert storage.can_save() is True

    async def test_account_is_text_or_none(self, storage: BaseStorage) -> None:
        """Whose token it is is said in text, and always the same."""
        account = await storage.account(ONE, **self.who)
        assert account is None or (isinstance(account, str) and account)
        assert await storage.account(ONE, **self.who) == account
        assert await storage.account(TWO, **self.who) == account

    async def _set(self, storage: BaseStorage, token: dict[str, Any]) -> None:
        await storage.set(ONE, token, **self.who)

    async def _replace(self, storage: BaseStorage, token: dict[str, Any]) -> None:
        await storage.set(ONE, token_of("old"), **self.who)
        assert await storage.replace(ONE, token_of("old"), token, **self.who)


def token_of(access_token: str, **more: Any) -> dict[str, Any]:
    """Return a token."""
    return {"access_token": access_token, **more}


def _text(token: object) -> str:
    # True == 1 == 1.0, but not as text.
    return json.dumps(token, sort_keys=True)
