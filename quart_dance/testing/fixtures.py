"""Fixtures for pytest.

In a `conftest.py`::

    pytest_plugins = ["quart_dance.testing.fixtures"]
"""

from __future__ import annotations

import pytest

from .provider import DevProvider


@pytest.fixture
def dev_provider() -> DevProvider:
    """Give a provider of the test's own, to be installed into its application."""
    return DevProvider()
