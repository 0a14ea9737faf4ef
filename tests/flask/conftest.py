"""Fixtures of the tests under Flask."""

from __future__ import annotations

from libraries import library

__all__ = ["library"]
