"""Fixtures of all tests."""

from __future__ import annotations

pytest_plugins = ["quart_dance.testing.fixtures", "services"]
