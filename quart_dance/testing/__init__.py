"""The testing kit: a provider of your own, in process or on a port.

What a storage promises is in `quart_dance.testing.contract`, which needs pytest.
"""

from __future__ import annotations

from . import faults
from .provider import DevProvider
from .records import ALICE, BOB, Call, IssuedToken, Person, Policy

__all__ = [
    "ALICE",
    "BOB",
    "Call",
    "DevProvider",
    "IssuedToken",
    "Person",
    "Policy",
    "faults",
]
