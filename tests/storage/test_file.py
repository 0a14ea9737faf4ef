"""Tokens in files: whose they are, and where."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import unicodedata
from types import SimpleNamespace
from typing import Any

import pytest
from limited import listed
from support import Visitor, make_app

from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.errors import StorageError, UserRequiredError

OWNER = SimpleNamespace(name="dev")
TOKEN = {"access_token": "t-1", "scope": ["ü", "✓"], "padding": "p" * 8000}


async def test_the_file_is_the_token(tmp_path):
    """The file holds the token itself, as JSON, and goes when the token is deleted."""
    storage = FileStorage(tmp_path / "token.json")
    assert await storage.get(OWNER) is None
    await storage.set(OWNER, TOKEN)
    assert json.loads((tmp_path / "token.json").read_text()) == TOKEN
    assert await FileStorage(tmp_path / "token.json").get(OWNER) == TOKEN
    await storage.delete(OWNER)
    await storage.delete(OWNER)
    assert listed(tmp_path) == []
    assert await storage.get(OWNER) is None
    await FileStorage(tmp_path / "nowhere" / "token.json").delete(OWNER)


HARMLESS = {"0", "42", "alice", "a-b_c", "x" * 64}
IDS = [
    *HARMLESS,
    *("../x", "..", ".", "/etc/x", "a/b", "a\\b", "C:x", "\0", "a\nb", "x" * 300),
    *("A", "a", "Alice", "con", "CON", "nul", "com1", "-rf", "~", "a ", "a.", "*"),
    *(unicodedata.normalize(form, "é") for form in ("NFC", "NFD")),
    *("٤٢", "\ud800", "{user_id}", "{bp.name}", "ﬁ", "fi"),
]


async def test_names(tmp_path):
    """S3: every id has a file of its own, in the folder, on any file system."""
    folder = tmp_path / "tokens"
    storage = FileStorage(folder / "{user_id}.json")
    for user_id in IDS:
        await storage.set(OWNER, {"access_token": user_id}, user_id=user_id)
    await storage.set(OWNER, {"access_token": "n"}, user_id=NOBODY)
    for user_id in IDS:
        found = await storage.get(OWNER, user_id=user_id)
        assert found == {"access_token": user_id}
    names = listed(folder)
    assert listed(tmp_path) == ["tokens"]
    assert (
        len({unicodedata.normalize("NFC", n).casefold() for n in names})
        == len(set(IDS)) + 1
    )
    assert {f"{user_id}.json" for user_id in HARMLESS} < set(names)
    assert all(len(name) <= 69 for name in names)


async def test_names_of_blueprints(tmp_path):
    """S3: neither does the name of a blueprint leave its folder."""
    storage = FileStorage(tmp_path / "{bp.name}" / "token.json")
    names = ["../x", "A", "a", "github-enterprise", "a:b"]
    for name in names:
        await storage.set(SimpleNamespace(name=name), {"access_token": name})
    for name in names:
        found = await storage.get(SimpleNamespace(name=name))
        assert found == {"access_token": name}
    assert len(listed(tmp_path)) == len(names)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("tokens/{bp.name}-{user_id}.json", "put '/' or '.' between"),
        ("tokens/{user_id}{bp.name}.json", "put '/' or '.' between"),
        ("tokens/{user_id!r}.json", "unknown field"),
        ("tokens/{user_id:.1}.json", "unknown field"),
        ("tokens/{bp}.json", "unknown field"),
        ("tokens/{}.json", "unknown field"),
        ("tokens/{name}.json", "unknown field"),
        ("tokens/{user_id.json", "expected '}'"),
    ],
)
def test_ambiguous_paths(path, problem):
    """S3: a path under which two accounts could share a file is refused at once."""
    with pytest.raises(ValueError, match=problem):
        FileStorage(path)


async def test_fields_that_touch_nothing(tmp_path):
    """S3: providers and users never meet, and doubled braces are braces."""
    storage = FileStorage(tmp_path / "{{x}}.{bp.name}.{user_id}.json")
    for name, user_id in (("a-b", "c"), ("a", "b-c"), ("c", "a-b")):
        token = {"access_token": f"{name} {user_id}"}
        await storage.set(SimpleNamespace(name=name), token, user_id=user_id)
    assert await storage.get(SimpleNamespace(name="a"), user_id="b-c") == {
        "access_token": "a b-c"
    }
    assert sorted(listed(tmp_path)) == [
        "{x}.a-b.c.json",
        "{x}.a.b-c.json",
        "{x}.c.a-b.json",
    ]


async def test_one_blueprint(tmp_path):
    """S3: a path without {bp.name} serves one blueprint, and a second one raises."""
    storage = FileStorage(tmp_path / "token.json")
    await storage.set(OWNER, TOKEN)
    other = SimpleNamespace(name="other")
    for call in (storage.get(other), storage.set(other, {}), storage.delete(other)):
        with pytest.raises(StorageError, match=r"put \{bp\.name\} into the path"):
            await call
    assert await storage.get(OWNER) == TOKEN


def test_threads(tmp_path):
    """S4: threads that write one file and their own leave each of them whole."""
    storage = FileStorage(tmp_path / "{user_id}.json")
    failed: list[BaseException] = []
    begin = threading.Barrier(8)

    async def main(number: int) -> None:
        for turn in range(25):
            token = {"access_token": f"{number}-{turn}", "padding": "p" * 5000}
            await storage.set(OWNER, token, user_id=number)
            assert await storage.get(OWNER, user_id=number) == token
            await storage.set(OWNER, token, user_id="all")
            seen = await storage.get(OWNER, user_id="all")
            assert seen is not None and len(seen["padding"]) == 5000

    def work(number: int) -> None:
        try:
            begin.wait()
            asyncio.run(main(number))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(listed(tmp_path)) == sorted(
        ["all.json", *(f"{number}.json" for number in range(8))]
    )


async def test_replace(tmp_path):
    """`replace` writes, or deletes, only if the file still holds what was read."""
    storage = FileStorage(tmp_path / "token.json")
    new = {"access_token": "t-2"}
    assert not await storage.replace(OWNER, TOKEN, new)
    await storage.set(OWNER, TOKEN)
    assert await storage.replace(OWNER, TOKEN, new)
    assert not await storage.replace(OWNER, TOKEN, None)
    assert await storage.get(OWNER) == new
    assert await storage.replace(OWNER, new, None)
    assert await storage.get(OWNER) is None


BROKEN = [b"", b"{", b"[]", b'"t"', b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": 1} x']


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:4]))
async def test_no_token_in_the_file(tmp_path, content, dev_provider):
    """S4: a file without a token is a typed error; the application goes on serving."""
    storage = FileStorage(tmp_path / "{user_id}.json", user_id=lambda: "alice")
    path = tmp_path / "alice.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"alice\.json holds no token"):
        await storage.get(OWNER)
    app, _ = make_app(dev_provider, storage=storage)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.add_url_rule("/other", "other", lambda: "still here")
    visitor = Visitor(app)
    assert (await visitor.get("/me")).status_code == 500
    assert await (await visitor.get("/other")).get_data(as_text=True) == "still here"
    assert (await visitor.login(dev_provider)).status_code == 302
    assert await (await visitor.get("/me")).get_data(as_text=True) == "alice"


async def test_off_the_loop(tmp_path):
    """S5: while a read, and a write behind it, hang in the disk, the loop goes on."""
    storage = FileStorage(tmp_path / "{user_id}.json")
    path = tmp_path / "slow.json"
    os.mkfifo(path)
    old, new = {"access_token": "old"}, {"access_token": "new"}
    swap = asyncio.create_task(storage.replace(OWNER, old, new, user_id="slow"))
    # Returns when somebody reads, who then waits for what is never written.
    pipe = await asyncio.to_thread(os.open, path, os.O_WRONLY)
    write = asyncio.create_task(storage.set(OWNER, new, user_id="other"))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert await storage.get(OWNER, user_id="third") is None
    assert not swap.done() and not write.done()
    os.write(pipe, b'{"access_token": "old"}')
    os.close(pipe)
    assert await swap
    await write
    assert await storage.get(OWNER, user_id="slow") == new
    assert await storage.get(OWNER, user_id="other") == new


class Proxy:
    """Stands for a user, as Quart-Auth's `current_user` does."""

    def __init__(self, user: Any) -> None:
        self.user = user

    def _get_current_object(self) -> Any:
        return self.user


async def _coroutine_function() -> Any:
    return SimpleNamespace(id=7)


async def _id_coroutine_function() -> Any:
    return "7"


@pytest.mark.parametrize(
    "reference",
    [
        {"user": SimpleNamespace(id=7)},
        {"user": SimpleNamespace(auth_id="7")},
        {"user": SimpleNamespace(get_id=lambda: "7")},
        {"user": lambda: SimpleNamespace(id=7)},
        {"user": _coroutine_function},
        {"user": Proxy(SimpleNamespace(auth_id="7"))},
        {"user": lambda: Proxy(SimpleNamespace(auth_id="7"))},
        {"user_id": 7},
        {"user_id": lambda: 7},
        {"user_id": _id_coroutine_function},
        {"user_id": Proxy(7)},
        {"user": lambda: SimpleNamespace(id=8), "user_id": lambda: 7},
    ],
    ids=str,
)
async def test_users(tmp_path, reference):
    """Whose token it is may be a value, a proxy, a function or a coroutine function."""
    storage = FileStorage(tmp_path / "{bp.name}" / "{user_id}.json", **reference)
    await storage.set(OWNER, TOKEN)
    assert listed(tmp_path / "dev") == ["7.json"]
    assert await storage.account(OWNER) == "7"
    assert await storage.get(OWNER) == TOKEN
    assert await storage.get(OWNER, user_id=8) is None
    assert await storage.get(OWNER, user=SimpleNamespace(id=7)) == TOKEN


@pytest.mark.parametrize(
    "reference",
    [
        {},
        {"user": lambda: None},
        {"user_id": lambda: None},
        {"user": SimpleNamespace(auth_id=None)},
        {"user": SimpleNamespace(is_anonymous=True, get_id=lambda: "7")},
    ],
    ids=str,
)
async def test_nobody(tmp_path, reference):
    """Without a user there is no file: each call raises, and nothing is written."""
    storage = FileStorage(tmp_path / "{user_id}.json", **reference)
    assert await storage.account(OWNER) is None
    calls = [storage.get(OWNER), storage.set(OWNER, TOKEN), storage.delete(OWNER)]
    for call in [*calls, storage.replace(OWNER, TOKEN, None)]:
        with pytest.raises(UserRequiredError):
            await call
    assert listed(tmp_path) == []


async def test_user_id_0(tmp_path):
    """The id 0 is somebody's, and the empty one nobody's."""
    storage = FileStorage(tmp_path / "{user_id}.json", user_id=lambda: 0)
    await storage.set(OWNER, TOKEN)
    assert listed(tmp_path) == ["0.json"]
    with pytest.raises(ValueError, match="'' is no user id"):
        await storage.get(OWNER, user_id="")


async def test_users_need_a_field(tmp_path):
    """A path without {user_id} keeps no tokens for users, and says so."""
    with pytest.raises(ValueError, match=r"put \{user_id\} in it"):
        FileStorage(tmp_path / "token.json", user_id=7)
    storage = FileStorage(tmp_path / "token.json")
    with pytest.raises(TypeError, match="no tokens for users"):
        await storage.get(OWNER, user_id=7)
