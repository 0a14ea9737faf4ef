"""What each storage promises, and the tests that hold it to that.

`tables.py` makes a table of it for the pages; tests/test_promises.py sees to it that
every test named here is there.
"""

from __future__ import annotations

from quart_dance.consumer.flight import SAVING

CONTRACT = "processes/test_processes_contract.py::"
REFRESH = "processes/test_processes_refresh.py::"
DOWN = "storage/test_servers_down.py::"
ENDURES = ("test_what_is_set_endures", "test_what_is_deleted_stays_away")
APART = ("test_accounts_never_meet", "test_everybody_has_a_token")
SHARED = (
    "test_what_one_does_all_see",
    "test_one_process_of_all_replaces",
    "test_every_process_gets_the_refresh_lock",
    "test_a_holder_that_is_killed",
)

#: What is promised of each storage; the columns of the table.
COLUMNS = (
    "a token that was set",
    "whose it is",
    "several processes",
    "what it stands on is gone",
)
#: A text, and the beginnings of the ids of the tests behind it, below ``tests/``.
Cell = tuple[str, tuple[str, ...]]


def contract(case: str, *tests: str) -> tuple[str, ...]:
    """Return the ids of tests of the contract, for one case."""
    return tuple(f"{CONTRACT}{case}::{test}" for test in tests)


def server(name: str, case: str) -> dict[str, Cell]:
    """Return what a database on a server promises."""
    return {
        "a token that was set": (
            "is there after a crash, be it ours or the server's",
            (
                *contract(case, *ENDURES, "test_a_writer_that_is_killed"),
                f"{DOWN}test_down_and_up[{name}-kill]",
                f"{REFRESH}test_killed[{name}-",
            ),
        ),
        "whose it is": (
            "one user's, or nobody's; one row, also of first logins at once",
            (
                *contract(case, *APART),
                f"processes/test_first_logins.py::test_first_logins[{name}-",
            ),
        ),
        "several processes": (
            "share it; one of them refreshes, and holds up its account for "
            "`lease_seconds` at most if it is killed",
            (
                *contract(case, *SHARED),
                f"{REFRESH}test_one_refresh[2-0-{name}]",
                f"{REFRESH}test_one_refresh[4-2-{name}]",
                f"{REFRESH}test_many_accounts[{name}]",
                f"{REFRESH}test_killed[{name}-",
            ),
        ),
        "what it stands on is gone": (
            "`StorageError` and an error page, and nobody counts as logged out; no "
            "restart is needed; the save of a token that was just refreshed is tried "
            f"again for {SAVING} s, and then, for a day, at the next request in that "
            "process",
            (
                f"{DOWN}test_down_and_up[{name}-stop]",
                f"{DOWN}test_down_when_a_new_token_is_to_be_saved[{name}]",
                f"{DOWN}test_pool_exhausted[{name}]",
                f"{DOWN}test_killed_in_the_middle_of_a_statement[{name}]",
                f"{DOWN}test_killed_again_and_again[{name}]",
            ),
        ),
    }


#: Each storage, and what it promises; every cell has tests.
PROMISES: dict[str, dict[str, Cell]] = {
    "`SessionStorage`, cookies": {
        "a token that was set": (
            "is kept by the browser, once it has the response",
            ("test_promises.py::test_cookie_outlives_the_application",),
        ),
        "whose it is": (
            "one browser's",
            (
                "dance/test_isolation.py::test_two_hundred_logins",
                "dance/test_session_storage.py::test_two_blueprints_in_one_session",
            ),
        ),
        "several processes": (
            "share it by the secret key; each refreshes for itself, and of two "
            "responses at once the later cookie stays",
            (
                "test_promises.py::test_cookie_outlives_the_application",
                "test_promises.py::test_cookie_in_two_processes",
            ),
        ),
        "what it stands on is gone": (
            "there is nothing to fail; a token too large for a cookie is refused, and "
            "the old one stays",
            ("dance/test_session_storage.py::test_a_login_that_does_not_fit",),
        ),
    },
    "`SessionStorage`, sessions in Redis (Quart-Session)": {
        "a token that was set": (
            "is kept as long as Redis keeps the session, whatever its size",
            ("storage/test_quart_session.py::test_login_refresh_logout",),
        ),
        "whose it is": (
            "one browser's; nothing of it is in the browser",
            (
                "storage/test_quart_session.py::test_login_refresh_logout",
                "storage/test_quart_session.py::test_a_session_that_somebody_else",
            ),
        ),
        "several processes": (
            "see at once what one of them does; each refreshes for itself",
            (
                "storage/test_quart_session.py::test_two_processes",
                "storage/test_quart_session.py::test_two_processes_at_once",
                "storage/test_quart_session.py::test_requests_at_once",
            ),
        ),
        "what it stands on is gone": (
            "an error page, and nobody is let in; no restart is needed",
            (
                "storage/test_quart_session.py::test_down_and_up",
                "storage/test_quart_session.py::test_garbage",
            ),
        ),
    },
    "`SQLAlchemyStorage`, PostgreSQL": server("postgresql", "TestPostgreSQL"),
    "`SQLAlchemyStorage`, MariaDB": server("mariadb", "TestMariaDB"),
    "`SQLAlchemyStorage`, SQLite": {
        **server("sqlite", "TestSQLite"),
        "a token that was set": (
            "is there after a crash of ours",
            (
                *contract("TestSQLite", *ENDURES, "test_a_writer_that_is_killed"),
                f"{REFRESH}test_killed[sqlite-",
            ),
        ),
        "what it stands on is gone": (
            "a disk that is full or read-only is a `StorageError`; tokens can be read",
            (f"{DOWN}test_read_only[sqlite]", f"{DOWN}test_disk_full"),
        ),
    },
    "… with a cache in Redis": {
        "a token that was set": (
            "is in the database",
            contract("TestPostgreSQLBehindRedis", *ENDURES),
        ),
        "whose it is": (
            "as in the database; an entry says itself whose it is",
            (
                *contract("TestPostgreSQLBehindRedis", *APART),
                "storage/test_redis_garbage.py::test_garbage",
            ),
        ),
        "several processes": (
            "see at once what one of them sets or deletes",
            (
                "storage/test_redis_cache.py::test_two_processes",
                *contract("TestPostgreSQLBehindRedis", *SHARED),
                *contract("TestMariaDBBehindRedis", *SHARED),
                *contract("TestSQLiteBehindRedis", *SHARED),
                f"{REFRESH}test_one_refresh[4-2-postgresql redis cache]",
                f"{REFRESH}test_one_refresh[4-2-mariadb redis cache]",
                f"{REFRESH}test_one_refresh[4-2-sqlite redis cache]",
            ),
        ),
        "what it stands on is gone": (
            "the database answers; of a change that Redis was not told the old token "
            "may be seen for `cache_ttl`, and that is logged",
            (
                "storage/test_redis_cache.py::test_while_requests_go_on",
                "storage/test_redis_cache.py::test_nobody_waits",
                "storage/test_redis_cache.py::test_down_from_the_start",
                "storage/test_redis_cache.py::test_cut_off_from_redis",
            ),
        ),
    },
    "… with leases in Redis": {
        "a token that was set": (
            "is in the database",
            contract("TestPostgreSQLWithLeasesInRedis", *ENDURES),
        ),
        "whose it is": (
            "as in the database",
            contract("TestPostgreSQLWithLeasesInRedis", *APART),
        ),
        "several processes": (
            "as without; a holder whose lease is over leaves the next one's alone",
            (
                *contract("TestPostgreSQLWithLeasesInRedis", *SHARED),
                f"{REFRESH}test_one_refresh[4-2-postgresql redis lease]",
                f"{REFRESH}test_killed[postgresql redis lease-",
                "storage/test_redis_lease.py::test_only_the_owner_gives_back",
            ),
        ),
        "what it stands on is gone": (
            "no token is refreshed (`StorageError`), and those that have not expired "
            "work on; no restart is needed",
            (
                "storage/test_redis_lease.py::test_an_application",
                "storage/test_redis_lease.py::test_down_and_up",
                "storage/test_redis_lease.py::test_restarted",
                "storage/test_redis_lease.py::test_silent",
            ),
        ),
    },
    "`FileStorage`": {
        "a token that was set": (
            "is on the disk, whole, after a crash of ours",
            (
                *contract("TestFiles", *ENDURES, "test_a_writer_that_is_killed"),
                "storage/test_file_disk.py::test_killed",
                "storage/test_file_disk.py::test_order",
            ),
        ),
        "whose it is": (
            "one user's with `{user_id}` in the path, else everybody's",
            (
                *contract("TestFiles", *APART),
                "storage/test_file.py::test_users",
                "storage/test_file.py::test_one_blueprint",
            ),
        ),
        "several processes": (
            "on one machine share it; one of them refreshes, and one that is killed "
            "holds up nobody",
            (
                *contract("TestFiles", *SHARED),
                f"{REFRESH}test_one_refresh[2-0-file]",
                f"{REFRESH}test_one_refresh[4-2-file]",
                f"{REFRESH}test_many_accounts[file]",
                f"{REFRESH}test_killed[file-",
                "storage/test_file_disk.py::test_two_processes",
            ),
        ),
        "what it stands on is gone": (
            "a disk that is full or read-only is a `StorageError`; the old token stays",
            (
                "storage/test_file_disk.py::test_disk_full",
                "storage/test_file_disk.py::test_read_only",
            ),
        ),
    },
    "`MemoryStorage`": {
        "a token that was set": (
            "is lost with the process",
            ("test_promises.py::test_memory_is_forgotten",),
        ),
        "whose it is": (
            "everybody's",
            ("dance/test_storages.py::test_memory_storage",),
        ),
        "several processes": (
            "each have their own",
            ("test_promises.py::test_memory_is_forgotten",),
        ),
        "what it stands on is gone": (
            "there is nothing to fail",
            ("dance/test_storages.py::test_memory_storage",),
        ),
    },
}
