"""The provider's pages: plain HTML with a little CSS, and no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from .faults import CHOICES
from .records import Person

CSS = """
:root{color-scheme:light dark}
body{font:1.0625rem/1.5 system-ui,sans-serif;max-width:26rem;margin:0 auto;
padding:2rem 1rem}
h1{font-size:1.35rem;line-height:1.3}
button,select{font:inherit;width:100%;padding:.7rem 1rem;margin:.3rem 0;
border:1px solid #8888;border-radius:.5rem;cursor:pointer}
button.yes{background:#1a6b3c;border-color:#1a6b3c;color:#fff}
code{overflow-wrap:anywhere}
details{margin-top:1.5rem}
label{display:block;margin-top:.5rem}
small{opacity:.75}
"""

_CSS_HASH = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()

#: No `form-action`: Chromium holds it against the redirect to the client as well.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_CSS_HASH}'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Content-Type": "text/html; charset=utf-8",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_PAGE = Markup(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<title>{title}</title><style>{css}</style></head>\n"
    "<body><main><h1>{title}</h1>\n{body}\n</main></body></html>\n"
)
_FORM = Markup('<form method="post" action="/consent">\n{fields}\n</form>')
_HIDDEN = Markup('<input type="hidden" name="{name}" value="{value}">')
_BUTTON = Markup(
    '<button name="{name}" value="{value}" class="{look}">{label}</button>'
)
_OPTION = Markup('<option value="{value}">{label}</option>')
_FAULTS = Markup(
    "<details><summary>Make it go wrong</summary>"
    '<label for="fault">In this one login:</label>'
    '<select id="fault" name="fault">{options}</select></details>'
)
_NOTE = Markup("<p><small>This is a development provider. Nobody is real.</small></p>")


def choose_page(ticket: str, people: Iterable[Person]) -> str:
    """Ask who the visitor is."""
    buttons = [
        _button("person", person.login, f"{person.name} (@{person.login})")
        for person in people
    ]
    fields = _lines(_HIDDEN.format(name="ticket", value=ticket), *buttons)
    return _page("Which person are you?", _lines(_FORM.format(fields=fields), _NOTE))


def consent_page(
    ticket: str, person: Person, client_id: str, scopes: Sequence[str]
) -> str:
    """Ask whether the client may have what it asks for."""
    items = [Markup("<li><code>{}</code></li>").format(name) for name in scopes]
    asked = Markup("<p>It asks for:</p><ul>{}</ul>").format(_lines(*items))
    choices = [("", "nothing goes wrong"), *((k, v[0]) for k, v in CHOICES.items())]
    options = [_OPTION.format(value=value, label=label) for value, label in choices]
    fields = _lines(
        _HIDDEN.format(name="ticket", value=ticket),
        _HIDDEN.format(name="person", value=person.login),
        _button("decision", "allow", "Allow", "yes"),
        _button("decision", "deny", "Deny"),
        _FAULTS.format(options=_lines(*options)),
    )
    title = f"{person.name}, allow {client_id}?"
    return _page(title, _lines(asked, _FORM.format(fields=fields), _NOTE))


def home_page() -> str:
    """Return the page of somebody who comes here by themselves."""
    text = (
        "This is a provider for development, with people made up. There is nothing to "
        "do here: log in at an application that uses it, and you will be sent here."
    )
    return _page("DevProvider", Markup("<p>{}</p>").format(text))


def error_page(message: str) -> str:
    """Say what is wrong where the visitor must not be sent back."""
    text = f"{message} Go back to the application and start again."
    return _page("This login cannot go on", Markup("<p>{}</p>").format(text))


def _button(name: str, value: str, label: str, look: str = "plain") -> Markup:
    return _BUTTON.format(name=name, value=value, label=label, look=look)


def _lines(*parts: Markup) -> Markup:
    return Markup("\n").join(parts)


def _page(title: str, body: Markup) -> str:
    return str(_PAGE.format(title=title, css=Markup(CSS), body=body))
