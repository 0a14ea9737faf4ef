"""A value that must be awaited, and says so when somebody forgets."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, NoReturn, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Pending(Generic[T_co]):
    """An awaitable that cannot be mistaken for its value.

    A coroutine is truthy: one forgotten `await` in ``if github.authorized:`` would
    let everybody in. This raises instead. It may be awaited more than once, and asks
    anew each time.

    Args:
        expression: How users write it, for the message.
        ask: Returns the coroutine that is awaited.
    """

    __slots__ = ("_ask", "_expression")

    def __init__(
        self, expression: str, ask: Callable[[], Coroutine[Any, Any, T_co]]
    ) -> None:
        self._expression = expression
        self._ask = ask

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._ask().__await__()

    def __call__(self) -> Pending[T_co]:
        """Return itself, for those who write it as a method."""
        return self

    def __repr__(self) -> str:
        return f"<write `await {self._expression}`>"

    def _forgotten(self, *_: object) -> NoReturn:
        raise TypeError(
            f"`{self._expression}` must be awaited: write `await {self._expression}`"
        )

    __bool__ = __len__ = __iter__ = _forgotten
    __getitem__ = __contains__ = _forgotten
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _forgotten
    __format__ = _forgotten
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> NoReturn:
        # Protocols are probed by dunder names: those must simply not be there.
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        self._forgotten()
