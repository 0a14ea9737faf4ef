"""What every token storage promises, as tests to inherit.

In a test module, with pytest and pytest-asyncio::

    from quart_dance.testing.contract import StorageContract

    class TestVaultStorage(StorageContract):
        @pytest.fixture
        def storage(self):
            return VaultStorage()

Each promise is one test. What a storage can do beyond the three coroutines is a class
of its own: `AccountsContract` for one that keeps tokens for users, `DurableContract`
for one whose tokens outlive the process, `SharedContract` for one that several
processes share. Inherit from all that fit.
"""

from __future__ import annotations

import pytest

# Before they are imported, so that a broken promise shows what was compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("core", "accounts", "durable", "shared"))
)

from .accounts import AccountsContract  # noqa: E402
from .core import StorageContract  # noqa: E402
from .durable import DurableContract  # noqa: E402
from .shared import SharedContract  # noqa: E402

__all__ = ["AccountsContract", "DurableContract", "SharedContract", "StorageContract"]
