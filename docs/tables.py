"""The tables of the documentation, read from the code that they describe.

Each function returns Markdown. `conf.py` hands them to the pages as substitutions:
``{{ options }}`` on a line of its own becomes the table.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from promises import COLUMNS, PROMISES

from quart_dance import errors
from quart_dance.consumer import flight, http, signals
from quart_dance.consumer.consumer import Consumer
from quart_dance.consumer.options import BlueprintOptions, OAuth2Options
from quart_dance.consumer.runtime import Runtime
from quart_dance.consumer.storage import cache, redis, session
from quart_dance.contrib import github, google
from quart_dance.oauth import attempt, token, urls
from quart_dance.testing import faults

#: The presets, in the order of the table.
PRESETS = [github, google]
#: The numbers that a reader may want to know, by where they are defined.
LIMITS: list[tuple[ModuleType, str]] = [
    (attempt, "LIFE"),
    (attempt, "MAX_OPEN"),
    (urls, "MAX_NEXT"),
    (http, "MAX_ANSWER"),
    (token, "LEEWAY"),
    (session, "MAX_COOKIE"),
    (cache, "DEADLINE"),
    (cache, "ABSENCE_TTL"),
    (cache, "MARKER_TTL"),
    (redis, "DEADLINE"),
]


def all_tables() -> dict[str, str]:
    """Return every table by the name that the pages call it."""
    return {
        "options": provider_options(),
        "blueprint_options": blueprint_options(),
        "errors": error_table(),
        "error_tree": error_tree(),
        "signals": signal_table(),
        "limits": limits(),
        "presets": presets(),
        "promises": promises(),
        "faults": fault_table(),
        "fault_choices": fault_choices(),
        "absence": str(cache.ABSENCE_TTL),
        "marker": str(cache.MARKER_TTL),
        "lease_deadline": str(redis.DEADLINE),
        "saving": str(flight.SAVING),
        "slack": str(flight.SLACK),
        "cookie_limit": str(session.MAX_COOKIE),
        "leeway": str(token.LEEWAY),
    }


def provider_options() -> str:
    """Return the options of an OAuth 2.0 blueprint that an app config may hold."""
    described = attributes(Consumer)
    types = {"client_id": "str | None", "client_secret": "str | None"}
    types |= annotations(OAuth2Options)
    rows = []
    for name in described:
        if name in Consumer.option_names():
            default = getattr(Consumer, name)._default
            text = described[name]
            if default or default is False:
                text += f" Default: {code(repr(default))}."
            rows.append((code(name), kind(types[name]), text))
    return table(("option", "type", "meaning"), rows)


def blueprint_options() -> str:
    """Return the other options: those that shape the Quart blueprint itself."""
    described = attributes(BlueprintOptions)
    types = annotations(BlueprintOptions)
    rows = [
        (code(name), kind(types[name]), text)
        for name, text in described.items()
        if name not in Consumer.option_names()
    ]
    previous = ""
    for number, (name, type_, text) in enumerate(rows):
        previous = text if text != "…" else previous
        rows[number] = (name, type_, previous.replace(", as all that follows", ""))
    return table(("option", "type", "meaning"), rows)


def error_table() -> str:
    """Return the errors, each with the status that a visitor gets to see."""
    rows = [
        (
            f"{{py:exc}}`~quart_dance.errors.{name}`",
            f"{{py:exc}}`~{full_name(error.__base__)}`",
            str(getattr(error, "status", "")) or "500",
            first_line(error),
        )
        for name, error in vars(errors).items()
        if inspect.isclass(error) and issubclass(error, Exception)
    ]
    return table(("error", "is a", "status", "when"), rows)


def error_tree() -> str:
    """Return the tree as it is drawn in the module's docstring."""
    _, _, tree = inspect.getdoc(errors).partition("::\n\n")  # type: ignore[union-attr]
    return f"```text\n{inspect.cleandoc(tree).replace('``', '')}\n```"


def signal_table() -> str:
    """Return the signals, each with what its receivers get."""
    rows = []
    for name, text in comments(signals).items():
        arguments, _, meaning = text.partition(": ")
        rows.append((code(name), arguments.replace("``", "`"), sentence(meaning)))
    return table(("signal", "receivers get", "when"), rows)


def limits() -> str:
    """Return the numbers that the library keeps to."""
    found = [(comments(module)[n], getattr(module, n)) for module, n in LIMITS]
    runtime = Runtime()
    found += [(attributes(Runtime)["deadline"], runtime.deadline)]
    rows = [(text, f"{value:,.10g}".replace(",", "\u202f")) for text, value in found]
    return table(("limit", "value"), rows)


def presets() -> str:
    """Return the presets with their config keys."""
    rows = []
    for module in PRESETS:
        name = module.__name__.rpartition(".")[2]
        made = getattr(module, f"make_{name}_blueprint")()
        keys = ", ".join(code(key) for key in made.from_config.values())
        rows.append((code(module.__name__), code(f"make_{name}_blueprint"), keys))
    return table(("module", "factory", "config keys"), rows)


def promises() -> str:
    """Return what each storage promises."""
    rows = [
        (storage, *(cells[column][0] for column in COLUMNS))
        for storage, cells in PROMISES.items()
    ]
    return table(("storage", *COLUMNS), rows)


def fault_table() -> str:
    """Return what a test can let go wrong: the constants, then the classes."""
    public = {k: v for k, v in vars(faults).items() if not k.startswith("_")}
    rows = []
    for name, value in public.items():
        if name.isupper() and isinstance(value, faults.Answer):
            body = value.body.decode()
            rows.append((code(name), f"status {value.status}, {excerpt(body)}"))
    for name, value in public.items():
        own = inspect.isclass(value) and value.__module__ == faults.__name__
        if own:
            rows.append((code(name + parameters(value)), first_line(value)))
    return table(("fault", "what goes wrong"), rows)


def fault_choices() -> str:
    """Return what a person can choose on the consent page."""
    rows = [(code(key), text) for key, (text, _) in faults.CHOICES.items()]
    return table(("choice", "what goes wrong"), rows)


# How it is read, and how it is written


def attributes(documented: type) -> dict[str, str]:
    """Read the "Attributes" of a docstring; raises ValueError if there are none."""
    _, found, text = (inspect.getdoc(documented) or "").partition("Attributes:\n")
    if not found:
        raise ValueError(f"{documented.__name__} describes no attributes")
    section = inspect.cleandoc(text.partition("\n\n")[0])
    entries = re.split(r"^(\w+): ", section, flags=re.MULTILINE)[1:]
    names, texts = entries[::2], entries[1::2]
    return {n: join(t) for n, t in zip(names, texts, strict=True)}


def annotations(typed: type) -> dict[str, str]:
    """Return the annotations of a class and its bases, as they are written."""
    found: dict[str, str] = {}
    for base in [typed, *getattr(typed, "__orig_bases__", ())]:
        own = getattr(base, "__annotations__", {})
        found |= {
            name: getattr(t, "__forward_arg__", str(t)) for name, t in own.items()
        }
    return found


def comments(module: ModuleType) -> dict[str, str]:
    """Read the ``#:`` comments of a module's names."""
    pattern = r"((?:^#: .*\n)+)^(\w+)(?: =|:)"
    found = re.findall(pattern, inspect.getsource(module), flags=re.MULTILINE)
    return {n: join(re.sub("^#: ", "", t, flags=re.MULTILINE)) for t, n in found}


def parameters(value: type) -> str:
    """Return what a fault takes, as one would write it."""
    names = inspect.signature(value).parameters
    return f"({', '.join(names)})"


def full_name(error: Any) -> str:
    module = "" if error.__module__ == "builtins" else f"{error.__module__}."
    return module + str(error.__name__)


def first_line(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def join(text: str) -> str:
    return " ".join(text.split())


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def excerpt(body: str) -> str:
    return code(body if len(body) < 40 else body[:40] + "…") if body else "no body"


def kind(annotation: str) -> str:
    """Show a type; every option may also be None, which means that it is not given."""
    return code(annotation.removesuffix(" | None").replace("oauth2.", ""))


def code(text: str) -> str:
    return f"`{text}`"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; in a cell a bar stands behind a backslash."""
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
