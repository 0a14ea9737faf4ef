"""An application with users: Flask-Login, Flask-SQLAlchemy, and a table of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from flask_login import LoginManager, UserMixin, login_user, logout_user
from flask_sqlalchemy import SQLAlchemy
from libraries import Library
from rooms import FlaskVisitor


class Shop:
    """An application whose users sign up, log in and connect the provider.

    Attributes:
        db: Flask-SQLAlchemy's.
        User: The model of users.
        OAuth: The model of tokens.
        blueprint: The blueprint; its storage is for the test to set.
    """

    def __init__(
        self, library: Library, url: str, init_db: Callable[[Flask, SQLAlchemy], None]
    ) -> None:
        self.library = library
        self.app, self.blueprint = library.make()
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.db = SQLAlchemy()
        self._make_models(library.module("consumer.storage.sqla").OAuthConsumerMixin)
        manager = LoginManager(self.app)
        manager.user_loader(lambda user_id: self.db.session.get(self.User, user_id))
        for rule, view in {"/in/<int:user_id>": self._enter, "/out": logout}.items():
            self.app.add_url_rule(rule, view.__name__, view)
        init_db(self.app, self.db)
        with self.app.app_context():
            for number in (1, 2):  # who may be there already
                self.db.session.merge(self.User(id=number))
            self.db.session.commit()

    def _make_models(self, mixin: Any) -> None:
        db: Any = self.db

        class User(UserMixin, db.Model):  # type: ignore[misc]
            id = db.Column(db.Integer, primary_key=True)
            name = db.Column(db.String(50))

        class OAuth(mixin, db.Model):  # type: ignore[misc]
            provider_user_id = db.Column(db.String(50))
            user_id = db.Column(db.Integer, db.ForeignKey(User.id))
            user = db.relationship(User)

        self.User: Any = User
        self.OAuth: Any = OAuth

    def _enter(self, user_id: int) -> str:
        login_user(self.db.session.get(self.User, user_id))
        return ""

    def storage(self, **options: Any) -> Any:
        """Return a storage in the table."""
        module = self.library.module("consumer.storage.sqla")
        return module.SQLAlchemyStorage(self.OAuth, self.db.session, **options)

    def visitor(self, user_id: int | None = None) -> FlaskVisitor:
        """Return a browser, of somebody who has logged in if an id is given."""
        visitor = FlaskVisitor(self.app)
        if user_id is not None:
            visitor.open(f"/in/{user_id}")
        return visitor

    def connect(self, visitor: FlaskVisitor, person: str) -> None:
        """Connect a visitor's account with a person at the provider."""
        page = visitor.login(self.library.provider, person)
        assert page.status == 302, page.text

    def rows(self) -> list[tuple[Any, str]]:
        """Return of each token whose it is here, and whose at the provider."""
        provider = self.library.provider
        people = {t.access_token: t.person.login for t in provider.tokens}
        with self.app.app_context():
            found = self.db.session.scalars(self.db.select(self.OAuth))
            rows = [(row.user_id, row.token["access_token"]) for row in found]
        named = [(user_id, people.get(token, token)) for user_id, token in rows]
        return sorted(named, key=lambda row: row[0] or 0)


def logout() -> str:
    """Log the application's user out."""
    logout_user()
    return ""


def made_up(name: str) -> dict[str, str]:
    """Return a token that nobody has issued."""
    return {"access_token": name, "token_type": "bearer"}
