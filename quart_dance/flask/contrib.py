"""The presets under Flask: each is the one of `quart_dance.contrib`, wrapped."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, cast

import flask

from ..consumer import oauth2
from ..consumer.hooks import find_preset
from ..contrib.github import make_github_blueprint as _make_github_blueprint
from ..contrib.google import make_google_blueprint as _make_google_blueprint
from .consumer.oauth2 import OAuth2ConsumerBlueprint
from .consumer.requests import OAuth2Session, SessionProxy

__all__ = ["github", "google", "make_github_blueprint", "make_google_blueprint"]

P = ParamSpec("P")


def _under_flask(
    make: Callable[P, oauth2.OAuth2ConsumerBlueprint],
) -> Callable[P, OAuth2ConsumerBlueprint]:
    """Return a preset that makes blueprints for Flask, of the same options."""

    @functools.wraps(make)
    def make_blueprint(*args: P.args, **kwargs: P.kwargs) -> OAuth2ConsumerBlueprint:
        storage: Any = kwargs.pop("storage", None)  # Flask's may be a sync one
        made = make(*args, **kwargs)
        options: Any = made.options
        blueprint = OAuth2ConsumerBlueprint(
            made.name, made.import_name, storage=storage, **options
        )
        blueprint.from_config.update(made.from_config)
        return blueprint

    return make_blueprint


def _session(module: str) -> OAuth2Session:
    """Return a stand-in for the session at the one blueprint that a preset made."""

    def find() -> Any:
        return find_preset(flask, OAuth2ConsumerBlueprint, module)

    return cast(OAuth2Session, SessionProxy(find))


make_github_blueprint = _under_flask(_make_github_blueprint)
make_google_blueprint = _under_flask(_make_google_blueprint)

#: The session of the visitor at hand, at the application's one GitHub blueprint.
github = _session(_make_github_blueprint.__module__)
#: The session of the visitor at hand, at the application's one Google blueprint.
google = _session(_make_google_blueprint.__module__)
