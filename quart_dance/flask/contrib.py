"""The presets under Flask: each is the one of `quart_dance.contrib`, wrapped."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from ..consumer import oauth2
from ..contrib.github import make_github_blueprint as _make_github_blueprint
from ..contrib.google import make_google_blueprint as _make_google_blueprint
from .consumer.oauth2 import OAuth2ConsumerBlueprint, preset_session

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


make_github_blueprint = _under_flask(_make_github_blueprint)
make_google_blueprint = _under_flask(_make_google_blueprint)

#: The session of the visitor at hand, at the application's one GitHub blueprint.
github = preset_session(_make_github_blueprint.__module__)
#: The session of the visitor at hand, at the application's one Google blueprint.
google = preset_session(_make_google_blueprint.__module__)
