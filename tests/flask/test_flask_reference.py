"""The code of Flask-Dance's two documents on storages runs here, word for word.

The documents lie beside the checkout, or where QUART_DANCE_REFERENCE says. Where they
are not, `test_flask_storages.py` covers the same.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import flask
import pytest
from blocks import ROOT
from libraries import OURS, THEIRS, Library, old_clock
from rooms import FlaskVisitor

NAMED = os.environ.get("QUART_DANCE_REFERENCE")
REFERENCE = Path(NAMED) if NAMED else ROOT.parent / "shared" / "reference"
pytestmark = pytest.mark.skipif(
    not NAMED and not REFERENCE.is_dir(),
    reason=f"the reference documents are not in {REFERENCE}",
)
#: What runs with which library: the one on the market has no older names any more.
runs = pytest.mark.parametrize(
    ("library", "document"),
    [
        (OURS, "backends"),
        (OURS, "storages"),
        pytest.param(THEIRS, "storages", marks=old_clock),
    ],
    indirect=["library"],
)
BLOCK = re.compile(r"::\n\n((?:    .*\n|\n)+)")


def blocks(document: str) -> list[str]:
    """Return the code of a document; that of the newer one has lost its lines."""
    older = (REFERENCE / "backends.txt").read_text("utf-8")
    found = [dedent(code).strip() + "\n" for code in BLOCK.findall(older)]
    if document == "storages":
        renamed = [
            code.replace("backend", "storage").replace("Backend", "Storage")
            for code in found
        ]
        newer = " ".join((REFERENCE / "storages.txt").read_text("utf-8").split())
        assert all(" ".join(code.split()) in newer for code in renamed)
        return renamed
    return found


def run(library: Library, names: dict[str, Any], *code: str) -> dict[str, Any]:
    """Run code with nothing changed in it but the name of the library."""
    for block in code:
        exec(block.replace("flask_dance", library.root), names)
    return names


@pytest.fixture
def start(
    library: Library, tmp_path: Path, init_db: Callable[..., None]
) -> Callable[[dict[str, Any]], flask.Flask]:
    """Give a function that makes the application which the reader is to have."""

    def make(names: dict[str, Any]) -> flask.Flask:
        app = library.app(names["blueprint"], names.get("app"))
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/app.db"
        init_db(app, names["db"])
        return app

    return make


def test_all_blocks_are_run():
    """There are five blocks, and these are what the tests below take them for."""
    assert [re.findall(r"^(?:class|.*backend =).*", c, re.M) for c in blocks("x")] == [
        ["class OAuth(OAuthConsumerMixin, db.Model):"],
        ["blueprint.backend = SQLAlchemyBackend(OAuth, db.session)"],
        [
            "class User(db.Model):",
            "class OAuth(OAuthConsumerMixin, db.Model):",
            "blueprint.backend = SQLAlchemyBackend(OAuth, db.session, "
            "user=current_user)",
        ],
        ["blueprint.backend = SQLAlchemyBackend(OAuth, db.session, cache=cache)"],
        ["class FileBackend(BaseBackend):"],
    ]


@runs
def test_one_token_for_all(library, document, start):
    """The first two blocks: a table without users."""
    model, assigned, *_ = blocks(document)
    names = {"blueprint": library.blueprint(), "__name__": "app"}
    run(library, names, model, assigned)
    app = start(names)
    library.login(app)
    assert FlaskVisitor(app).open("/me").text == "alice"
    with app.app_context():
        [row] = names["db"].session.scalars(names["db"].select(names["OAuth"]))
        assert (row.provider, len(row.token["access_token"]) > 20) == ("dev", True)
        del names["blueprint"].token
    assert FlaskVisitor(app).open("/me").status == 401


@runs
def test_one_token_for_each_user(library, document, start):
    """The third block: a table with users, and Flask-Login's `current_user`."""
    import flask_login

    names = {"blueprint": library.blueprint(), "__name__": "app"}
    run(library, names, blocks(document)[2])
    app, db = start(names), names["db"]
    manager = flask_login.LoginManager(app)
    manager.user_loader(lambda user_id: db.session.get(names["User"], int(user_id)))
    with app.app_context():
        db.session.add_all([names["User"](id=1), names["User"](id=2)])
        db.session.commit()
    visitors = [FlaskVisitor(app), FlaskVisitor(app)]
    for number, visitor in enumerate(visitors, 1):
        with visitor.client.session_transaction(base_url="https://app.test") as session:
            session["_user_id"] = str(number)
    assert visitors[0].login(library.provider, "alice").status == 302
    assert visitors[1].open("/me").status == 401
    assert visitors[1].login(library.provider, "bob").status == 302
    assert [visitor.open("/me").text for visitor in visitors] == ["alice", "bob"]
    with app.app_context():
        rows = db.session.scalars(db.select(names["OAuth"]))
        assert sorted(row.user.id for row in rows) == [1, 2]


@runs
@pytest.mark.filterwarnings("ignore:Flask-Caching. CACHE_TYPE is set to null")
@pytest.mark.filterwarnings("ignore:Using the initialization functions")
def test_cache(library, document, start):
    """The fourth block: Flask-Caching's cache in front of the table."""
    model, assigned, _, cached, _ = blocks(document)
    names = {"blueprint": library.blueprint(), "__name__": "app"}
    imported = assigned.splitlines()[0]  # the block leaves that to the second one
    run(library, names, model, imported, cached)
    app = start(names)
    app.config["CACHE_TYPE"] = "SimpleCache"
    names["cache"].init_app(app)
    visitor = library.login(app)
    names["cache"].clear()
    assert visitor.open("/me").text == "alice"  # from the table
    with app.app_context():
        names["db"].session.execute(names["db"].delete(names["OAuth"]))
        names["db"].session.commit()
    assert visitor.open("/me").text == "alice"  # from the cache


@runs
def test_custom(library, document, tmp_path):
    """The last block: a file on disk, behind three plain methods."""
    names = run(library, {"__name__": "app"}, blocks(document)[-1])
    attribute = document.removesuffix("s")
    kind = names[f"File{attribute.title()}"]
    path = tmp_path / "token.json"
    for person in ("alice", "bob"):  # the second one begins with the first one's file
        app, blueprint = library.make()
        setattr(blueprint, attribute, kind(str(path)))
        library.login(app, person)
        assert FlaskVisitor(app).open("/me").text == person
        assert json.loads(path.read_text())["token_type"].lower() == "bearer"
    with app.app_context():
        del blueprint.token
    assert not path.exists()
    assert FlaskVisitor(app).open("/me").status == 401
