"""How Sphinx builds the documentation.

sphinx-build -W -n -b html docs docs/_build/html
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tables

import quart_dance

project = "quart_dance"
copyright = "the quart_dance authors"
release = version = quart_dance.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_title = f"quart_dance {release}"
html_show_sourcelink = False

myst_enable_extensions = ["deflist", "substitution"]
myst_heading_anchors = 3
myst_substitutions = tables.all_tables()

# The docstrings put code into single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False

nitpicky = True
# What is documented elsewhere, and what is ours but not to be used by name.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(asyncio|blinker|collections|contextlib|datetime|os|ssl|typing|types)\b.*",
    ),
    (
        r"py:.*",
        r"(authlib|flask|httpx2|hypercorn|pytest|quart|sqlalchemy|werkzeug)\..*",
    ),
    (
        r"py:.*",
        r"(?:quart_dance\..*\.)?"
        r"(AnySession|AnyStorage|Consumer|Owner|Session|Who|Quart|Redis|P|R|T_co)",
    ),
]
