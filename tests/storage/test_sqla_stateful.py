"""Whatever is done by several at once, it could have been done one by one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from linear import Event, final_states
from random_work import Accounts

# Of what redis-py has given up aiocache still calls some.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning"),
]


class CachedAccounts(Accounts):
    cached = True


def work(machine, examples):
    """Let a machine work."""
    case = machine.TestCase()
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=10,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    case.runTest()


@pytest.mark.parametrize("machine", [Accounts, CachedAccounts])
def test_accounts(machine):
    """Random work of four tasks: never a deleted or older token, nor another's."""
    work(machine, 20)


@pytest.mark.parametrize("cached", [False, True], ids=["alone", "behind-redis"])
def test_accounts_on_postgresql(request, postgresql_url, cached):
    """S9, S10: The same on PostgreSQL, with and without Redis as its cache."""
    machine = type("Served", (Accounts,), {"url": postgresql_url, "cached": cached})
    if cached:
        port = int(request.getfixturevalue("redis_url").split(":")[2].split("/")[0])
        prefix = request.getfixturevalue("redis_prefix")
        machine.redis = {"port": port, "namespace": prefix}
    work(machine, 10)


READ_OLD = [
    Event(1, 2, "write", None, "a", None),
    Event(3, 4, "write", None, None, None),
    Event(5, 6, "read", None, None, "a"),
]


@pytest.mark.parametrize(
    ("events", "states"),
    [
        ([], {None}),
        (READ_OLD, set()),
        ([READ_OLD[0], Event(3, 5, "write", None, None, None), READ_OLD[2]], {None}),
        (
            [
                Event(1, 2, "write", None, "a", None),
                Event(3, 9, "swap", "a", "b", True),
                Event(4, 5, "write", None, None, None),
            ],
            {None},
        ),
        (
            [
                Event(1, 2, "write", None, "a", None),
                Event(3, 9, "swap", "a", "b", True),
                Event(4, 5, "write", None, None, None),
                Event(6, 7, "read", None, None, "b"),
            ],
            set(),
        ),
        (
            [
                Event(1, 2, "write", None, "a", None),
                Event(3, 9, "swap", "a", "b", True),
                Event(3, 9, "swap", "a", "c", True),
            ],
            set(),
        ),
    ],
)
def test_the_judge(events, states):
    """The order that the test above looks for is the right one: a few known cases."""
    assert final_states(events, None) == states
