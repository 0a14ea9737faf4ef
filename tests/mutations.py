"""Take each check out of the library in turn, and see that a test turns red.

Run it with ``python tests/mutations.py``, or with the names of some mutations, or of
the folders that have the tests. It works on copies in a temporary folder and exits 1 if
a mutation survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutation(NamedTuple):
    """One check, and the code without it."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    # Login and callback
    Mutation(
        "the state is compared",
        "oauth/attempt.py",
        "if attempt is None or not _equal(attempt.state, state):",
        "if attempt is None:",
        "oauth",
    ),
    Mutation(
        "an attempt is sealed",
        "oauth/attempt.py",
        "data = self._fernet.decrypt_at_time(value, LIFE, int(now))",
        "data = self._fernet.decrypt_at_time(value, 10**9, int(now))",
        "oauth",
    ),
    Mutation(
        "an attempt belongs to one blueprint",
        "consumer/dance.py",
        "if attempt is None or attempt.blueprint != self.name:",
        "if attempt is None:",
        "dance/test_attempts dance/test_callback",
    ),
    Mutation(
        "a callback needs an attempt",
        "consumer/dance.py",
        "if not attempts:",
        "if not attempts and not callback.code:",
        "dance/test_callback",
    ),
    Mutation(
        "a state is used once",
        "consumer/dance.py",
        "return visit.runtime.used_states.add(fingerprint(state), True, now)",
        "return True",
        "dance/test_callback dance/test_attempts",
    ),
    Mutation(
        "two threads do not use one state",
        "consumer/runtime.py",
        "        with _lock:\n            return self._add(key, value, now)",
        "        if True:\n            return self._add(key, value, now)",
        "dance/test_memory",
    ),
    Mutation(
        "a forked process waits for no thread of its parent",
        "consumer/runtime.py",
        "    os.register_at_fork(after_in_child=_renew_lock)",
        "    pass",
        "dance/test_memory",
    ),
    Mutation(
        "five attempts at most",
        "consumer/dance.py",
        "surplus = sorted(found)[: max(0, len(found) + 1 - MAX_OPEN)]",
        "surplus = sorted(found)[:0]",
        "dance/test_attempts",
    ),
    Mutation(
        "no parameter comes twice",
        "oauth/oauth2.py",
        "if repeated:",
        "if False:",
        "oauth dance/test_callback",
    ),
    Mutation(
        "a code or an error, not both",
        "oauth/oauth2.py",
        'if "code" in found and "error" in found:',
        "if False:",
        "oauth dance/test_callback",
    ),
    Mutation(
        "the issuer is compared",
        "consumer/dance.py",
        "if self.issuer and callback.iss != self.issuer:",
        "if False:",
        "dance/test_callback",
    ),
    Mutation(
        "the account is the one that began",
        "consumer/dance.py",
        "if await saved(self.async_storage.account(self)) != attempt.account:",
        "if False:",
        "dance/test_callback",
    ),
    Mutation(
        "a foreign login asks for a click",
        "consumer/dance.py",
        "if visit.cross_site and account is not None:",
        "if False:",
        "dance/test_callback dance/test_attempts",
    ),
    Mutation(
        "PKCE is sent",
        "consumer/dance.py",
        "oauth2.new_code_verifier() if self.use_pkce else None",
        "None",
        "dance/test_callback dance/test_options",
    ),
    Mutation(
        "PKCE is S256",
        "oauth/oauth2.py",
        "create_s256_code_challenge(code_verifier) if s256 else code_verifier",
        "code_verifier",
        "oauth",
    ),
    Mutation(
        "a verifier is fresh",
        "oauth/oauth2.py",
        "return secrets.token_urlsafe(48)",
        'return "v" * 64',
        "oauth dance/test_isolation",
    ),
    Mutation(
        "attempts are HttpOnly",
        "consumer/room.py",
        "httponly=True,",
        "httponly=False,",
        "dance/test_attempts",
    ),
    Mutation(
        "attempts are Secure",
        "consumer/room.py",
        "secure=cookie.secure,",
        "secure=False,",
        "dance/test_attempts",
    ),
    Mutation(
        "a request names a host",
        "consumer/room.py",
        "if not has_host(url):",
        "if False:",
        "flask/test_both_logins",
    ),
    Mutation(
        "a receiver may refuse",
        "consumer/dance.py",
        "if not any(result is False for result in results):",
        "if True:",
        "dance/test_signals",
    ),
    Mutation(
        "a receiver's page is no consent",
        "consumer/dance.py",
        "if isinstance(result, str | bytes | tuple | list | dict):",
        "if isinstance(result, str | bytes | list | dict):",
        "dance/test_signals",
    ),
    Mutation(
        "a receiver gets a copy",
        "consumer/dance.py",
        "self.notify(oauth_authorized, token=token.copy())",
        "self.notify(oauth_authorized, token=token)",
        "dance/test_signals",
    ),
    Mutation(
        "answers are not cached",
        "consumer/pages.py",
        '"Cache-Control": "no-store",',
        "",
        "dance/test_secrecy",
    ),
    # Redirects and URLs
    Mutation(
        "next is no other host",
        "oauth/urls.py",
        'text.startswith("//") or ',
        "",
        "oauth dance/test_redirects",
    ),
    Mutation(
        "a callback is secure",
        "consumer/dance.py",
        "if not is_secure(uri) and not insecure:",
        "if False:",
        "dance/test_redirects",
    ),
    Mutation(
        "the token stays at its origin",
        "consumer/origins.py",
        "if token is None or _is_allowed(consumer, parsed, token):",
        "if True:",
        "dance/test_origins",
    ),
    Mutation(
        "no user name in a URL",
        "oauth/urls.py",
        '"@" in parts.netloc or ',
        "",
        "oauth",
    ),
    Mutation(
        "a redirect leaves the token behind",
        "consumer/calls.py",
        'following.headers.pop("Authorization", None)',
        "pass",
        "dance/test_origins dance/test_redirects",
    ),
    Mutation(
        "cookies are a visitor's",
        "consumer/http.py",
        "not to the pool.\n"
        "            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),",
        "not to the pool.",
        "dance/test_isolation dance/test_origins dance/test_session",
    ),
    Mutation(
        "provider URLs are https",
        "consumer/consumer.py",
        "if not is_secure(url):",
        "if False:",
        "dance/test_redirects dance/test_urls",
    ),
    # Token endpoint
    Mutation(
        "a form follows no redirect",
        "consumer/http.py",
        "stream=True, auth=None, follow_redirects=False)",
        "stream=True, auth=None, follow_redirects=True)",
        "dance/test_token_endpoint dance/test_origins dance/test_redirects",
    ),
    Mutation(
        "an answer has a size",
        "consumer/http.py",
        "if len(raw) > MAX_ANSWER:",
        "if False:",
        "dance/test_token_endpoint",
    ),
    Mutation(
        "a decompressed answer has a size",
        "consumer/http.py",
        "stream.decompress(raw, MAX_ANSWER + 1)",
        "stream.decompress(raw)",
        "dance/test_token_endpoint",
    ),
    Mutation(
        "an answer has a deadline",
        "consumer/http.py",
        "async with asyncio.timeout(runtime.deadline):",
        "async with asyncio.timeout(None):",
        "dance/test_token_endpoint",
    ),
    Mutation(
        "an access token is a string",
        "oauth/token.py",
        "if not isinstance(access_token, str) or not access_token:\n"
        '        return "the answer',
        'if access_token == ():\n        return "the answer',
        "oauth",
    ),
    Mutation(
        "a token is a bearer token",
        "oauth/token.py",
        "or token_type.lower() not in token_types:",
        "or False:",
        "oauth dance/test_token_endpoint",
    ),
    Mutation(
        "the expiry is by our clock",
        "oauth/token.py",
        'result.pop("expires_at", None)',
        "pass",
        "oauth",
    ),
    Mutation(
        "a name stands once",
        "oauth/answer.py",
        "if len(fields) < len(pairs):",
        "if False:",
        "oauth",
    ),
    # Tokens, refresh, storages
    Mutation(
        "a token expires",
        "oauth/token.py",
        "return now >= end - leeway",
        "return False",
        "oauth",
    ),
    Mutation(
        "a refresh keeps what is not said",
        "oauth/token.py",
        "return Token({**kept, **said}).copy()",
        "return Token(said).copy()",
        "oauth",
    ),
    Mutation(
        "one flight for all",
        "consumer/flight.py",
        "    if flight is None:\n",
        "    if True:\n",
        "dance/test_flights dance/test_isolation",
    ),
    Mutation(
        "a flight is shielded",
        "consumer/flight.py",
        "await asyncio.wait([flight])",
        "await flight",
        "dance/test_cancellation",
    ),
    Mutation(
        "each who waits for a refresh has an error of their own",
        "consumer/flight.py",
        "raise _for_one(error, whole=ours)",
        "raise error",
        "dance/test_flights_that_fail",
    ),
    Mutation(
        "a traceback shows no frames of another visitor",
        "consumer/flight.py",
        "raise _for_one(error, whole=ours)",
        "raise _for_one(error, whole=True)",
        "dance/test_flights_that_fail",
    ),
    Mutation(
        "an error has no notes of another visitor",
        "consumer/flight.py",
        "made.__notes__ = [*notes]",
        "pass",
        "dance/test_flights_that_fail",
    ),
    Mutation(
        "an error is not made by the constructor of a subclass",
        "consumer/flight.py",
        'while base.__module__ != "builtins":',
        "while False:",
        "dance/test_flights_that_fail",
    ),
    Mutation(
        "a flight is remembered",
        "consumer/flight.py",
        "runtime.refreshed.put(identity, new, runtime.clock())",
        "pass",
        "dance/test_flights",
    ),
    Mutation(
        "what could not be saved is remembered",
        "consumer/flight.py",
        "runtime.unsaved.put(identity, new, runtime.clock())",
        "pass",
        "dance/test_refresh_failures dance/test_refresh_unsaved",
    ),
    Mutation(
        "what is remembered is not used when it is over",
        "consumer/flight.py",
        "in runtime.here.flights or self._is_due(new):",
        "in runtime.here.flights:",
        "dance/test_refresh_unsaved",
    ),
    Mutation(
        "what is remembered and over is exchanged",
        "consumer/flight.py",
        "return await self._exchange(new) if self._is_due(new) else new",
        "return new",
        "dance/test_refresh_unsaved",
    ),
    Mutation(
        "a late save needs no lease",
        "consumer/flight.py",
        "        if new is None or self._key(old)",
        "        if True or self._key(old)",
        "dance/test_refresh_unsaved",
    ),
    Mutation(
        "what is saved late is not remembered",
        "consumer/flight.py",
        "        runtime.unsaved.forget(identity)\n        if not replaced:",
        "        if not replaced:",
        "dance/test_refresh_unsaved",
    ),
    Mutation(
        "what is saved in the end is not remembered",
        "consumer/flight.py",
        "            else:\n                runtime.unsaved.forget(identity)",
        "            else:",
        "dance/test_refresh_unsaved",
    ),
    Mutation(
        "a save is tried again",
        "consumer/flight.py",
        "if clock() + wait > end or not await self._is_same():",
        "if True:",
        "dance/test_refresh_failures dance/test_refresh_unsaved",
    ),
    Mutation(
        "a name that names nobody is noticed",
        "consumer/flight.py",
        "await account_of(storage, self.consumer, **self.who) == self.account",
        "bool(self.who) or "
        "await account_of(storage, self.consumer, **self.who) == self.account",
        "dance/test_flights_accounts",
    ),
    Mutation(
        "a refresh without a name looks who is logged in",
        "consumer/flight.py",
        "        await self._check()\n        return token",
        "        return token",
        "dance/test_flights_accounts",
    ),
    Mutation(
        "databases share no refresh",
        "consumer/flight.py",
        "return self.consumer, self.account, identity_of(old)",
        "return self.consumer, self.account or identity_of(old)",
        "dance/test_flights_accounts",
    ),
    Mutation(
        "what cannot be saved is not spent",
        "consumer/refresh.py",
        "if not storage.can_save():",
        "if False:",
        "dance/test_flights dance/test_refresh dance/test_session_storage",
    ),
    Mutation(
        "a replacement compares",
        "consumer/storage/base.py",
        "if await self.reread(blueprint, **who) != old:",
        "if False:",
        "dance/test_storages dance/test_flights dance/test_refresh",
    ),
    Mutation(
        "only invalid_grant ends a token",
        "consumer/flight.py",
        "if error.error in _DEAD:",
        "if True:",
        "dance/test_refresh",
    ),
    Mutation(
        "a session cookie has a size",
        "consumer/storage/session.py",
        "> MAX_COOKIE:",
        "> 10**9:",
        "dance/test_storages dance/test_session_storage",
    ),
    Mutation(
        "accounts are named",
        "consumer/room.py",
        "if (user is not None) + (user_id is not None) + anonymous != 1:",
        "if False:",
        "dance/test_session_for",
    ),
    Mutation(
        "a row is compared",
        "consumer/storage/sqla.py",
        "if row is None or row.token != old:",
        "if row is None:",
        "storage/test_contract.py",
    ),
    Mutation(
        "a file is compared",
        "consumer/storage/disk.py",
        "if read(path) != old:",
        "if False:",
        "storage/test_contract.py",
    ),
    Mutation(
        "nobody is an account of its own",
        "consumer/storage/rows.py",
        "mine.append(column.is_(None))",
        "pass",
        "storage/test_contract.py storage/test_sqla_flask",
    ),
    Mutation(
        "an upgrade guesses no user column",
        "consumer/storage/existing.py",
        'if "user_id" in columns and foreign <= {"user_id"}:',
        'if "user_id" in columns:',
        "storage/test_upgrade_shapes.py::test_users_are_not_guessed",
    ),
    Mutation(
        "an upgrade keeps the last token of an account",
        "consumer/storage/duplicates.py",
        'func.lower(kind) == "object")',
        "kind.is_not(None))",
        "storage/test_upgrade_refusals.py",
    ),
    Mutation(
        "an upgrade keeps what others refer to",
        "consumer/storage/duplicates.py",
        "if referred == (ours.schema or home, ours.name):",
        "if not ours.name:",
        "storage/test_upgrade_refusals.py",
    ),
    Mutation(
        "an upgrade compares to the letter",
        "consumer/storage/duplicates.py",
        "if self.dialect in MYSQL and is_text(each):",
        "if False:",
        "storage/test_upgrade_shapes.py",
    ),
    Mutation(
        "an upgrade locks the table",
        "consumer/storage/upgrade.py",
        'if drops else "EXCLUSIVE"',
        'if drops else "ACCESS SHARE"',
        "storage/test_upgrade_others.py::test_a_duplicate_that_is_on_its_way",
    ),
    Mutation(
        "a transaction is tried again where an index has come",
        "consumer/storage/database.py",
        "met = kind is Work.TRANSACTION and isinstance(error, IntegrityError)",
        "met = False",
        "storage/test_upgrade_others.py::test_an_index_that_a_storage_does_not_know_of",
    ),
    Mutation(
        "a marker goes before a change",
        "consumer/storage/cache.py",
        "await self._call(mark)\n",
        "pass",
        "storage/test_cache",
    ),
    Mutation(
        "a marker goes after a change",
        "consumer/storage/cache.py",
        "await self._call(mark, must=True)",
        "pass",
        "storage/test_cache",
    ),
    Mutation(
        "a change goes on without its caller",
        "consumer/storage/cache.py",
        "return await finished(change)",
        "return await change",
        "storage/test_cache.py",
    ),
    Mutation(
        "a reader only adds",
        "consumer/storage/cache.py",
        "self._cache.add, key, entry",
        "self._cache.set, key, entry",
        "storage/test_cache",
    ),
    Mutation(
        "a slow reader adds nothing",
        "consumer/storage/cache.py",
        " and self._clock() - began < READ_DEADLINE:",
        ":",
        "storage/test_cache",
    ),
    Mutation(
        "an entry says whose it is",
        "consumer/storage/cache.py",
        ' or entry.get("of") != key:',
        ":",
        "storage/test_sqla_cache",
    ),
    # Many processes
    Mutation(
        "what a database holds is compared when it is written",
        "consumer/storage/rows.py",
        "same = and_(self._is_row(row.key), text == row.text)",
        "same = self._is_row(row.key)",
        "processes/test_lost_update",
    ),
    Mutation(
        "MariaDB compares tokens by the letter",
        "consumer/storage/rows.py",
        "text = exact(self.token)",
        "pass",
        "processes/test_lost_update",
    ),
    Mutation(
        "MariaDB compares accounts by the letter",
        "consumer/storage/rows.py",
        "mine.append(exact(column) == value)",
        "pass",
        "storage/test_mariadb_ids",
    ),
    Mutation(
        "indexes that compare otherwise are none",
        "consumer/storage/structure.py",
        "if missing or inexact_columns(connection, rows):",
        "if missing:",
        "storage/test_mariadb_ids",
    ),
    Mutation(
        "an index takes no account for another one",
        "consumer/storage/structure.py",
        "or _tells_apart(connection, rows)",
        "or True",
        "storage/test_other_indexes.py::test_an_index_that_takes_one_for_another",
    ),
    Mutation(
        "the beginning of a name is not the name",
        "consumer/storage/structure.py",
        "CASE WHEN sub_part IS NULL THEN column_name END",
        "column_name",
        "storage/test_other_indexes.py::test_a_key_that_takes_one_for_another",
    ),
    Mutation(
        "an upgrade drops what keeps users out",
        "consumer/storage/upgrade.py",
        "for name in outgrown(self.connection, rows)[0]:",
        "for name in ():",
        "storage/test_other_indexes.py::test_a_shared_table_gets_users",
    ),
    Mutation(
        "a lease is given back by its owner",
        "consumer/storage/leases.py",
        "mine = and_(self.table.c.name == name, self.table.c.owner == owner)",
        "mine = self.table.c.name == name",
        "storage/test_table_lease",
    ),
    Mutation(
        "a lease that somebody holds is not taken",
        "consumer/storage/leases.py",
        "update(table).where(and_(table.c.name == name, free))",
        "update(table).where(table.c.name == name)",
        "storage/test_table_lease",
    ),
    Mutation(
        "a lease ends by the clock of the database",
        "consumer/storage/leases.py",
        "table, now = self.table, _now(connection)",
        'table, now = self.table, __import__("time").time()',
        "storage/test_table_lease",
    ),
    Mutation(
        "processes that refresh a file's token wait for each other",
        "consumer/storage/file.py",
        "await until(partial(_in_thread, path, partial(_acquire, lock)))",
        "pass",
        "processes/test_processes_contract.py::TestFiles",
    ),
    Mutation(
        "processes that write a file wait for each other",
        "consumer/storage/disk.py",
        "lock.acquire(blocking=False)",
        "pass",
        "processes/test_processes_contract.py::TestFiles",
    ),
    Mutation(
        "no provider is asked when a lease is nearly over",
        "consumer/flight.py",
        "if clock() - began > SLACK:",
        "if False:",
        "storage/test_single_flight",
    ),
    # Waiting, leases and caches
    Mutation(
        "a deadline is kept",
        "consumer/storage/waiting.py",
        "asyncio.wait([task], timeout=seconds)",
        "asyncio.wait([task])",
        "storage/test_waiting",
    ),
    Mutation(
        "what takes too long is told to end",
        "consumer/storage/waiting.py",
        "        task.cancel()",
        "        pass",
        "storage/test_waiting",
    ),
    Mutation(
        "what is short is not broken off",
        "consumer/storage/waiting.py",
        "return await asyncio.shield(task)",
        "return await task",
        "storage/test_waiting",
    ),
    Mutation(
        "whoever is cancelled waits for it",
        "consumer/storage/waiting.py",
        "        await asyncio.wait([task], timeout=GRACE)\n        raise",
        "        raise",
        "storage/test_waiting",
    ),
    Mutation(
        "work that others cancel is over",
        "consumer/storage/waiting.py",
        "if not task.done() or task.cancelled():",
        "if not task.done():",
        "storage/test_waiting",
    ),
    Mutation(
        "a storage that others cancel has failed",
        "consumer/storage/base.py",
        "except (Exception, asyncio.CancelledError) as caught:",
        "except Exception as caught:",
        "storage/test_waiting dance/test_storing_fails",
    ),
    Mutation(
        "a refresh that others cancel has failed",
        "consumer/flight.py",
        "if flight.cancelled():",
        "if False:",
        "dance/test_refresh_failures dance/test_refresh_unsaved",
    ),
    Mutation(
        "a caller that is cancelled hears it",
        "consumer/storage/waiting.py",
        "return task is not None and task.cancelling() > 0",
        "return False",
        "storage/test_waiting",
    ),
    Mutation(
        "a lease in Redis keeps others out",
        "consumer/storage/redis.py",
        "if left >= 0 and",
        "if false and",
        "storage/test_redis_lease",
    ),
    Mutation(
        "a lease in Redis has an end",
        "consumer/storage/redis.py",
        "ARGV[1], 'px', ARGV[2])",
        "ARGV[1])",
        "storage/test_redis_lease",
    ),
    Mutation(
        "what has no end is no lease",
        "consumer/storage/redis.py",
        "if left >= 0 and",
        "if left >= -1 and",
        "storage/test_redis_lease",
    ),
    Mutation(
        "what lasts for ages is no lease",
        "consumer/storage/redis.py",
        " and left <= 100 * ARGV[2]",
        "",
        "storage/test_redis_lease",
    ),
    Mutation(
        "a lease in Redis may be asked for again",
        "consumer/storage/redis.py",
        " and theirs then",
        " then",
        "storage/test_redis_lease",
    ),
    Mutation(
        "only its owner ends a lease in Redis",
        "consumer/storage/redis.py",
        "if redis.pcall('get', KEYS[1]) == ARGV[1] then",
        "if true then",
        "storage/test_redis_lease",
    ),
    Mutation(
        "a lease in Redis is given back",
        "consumer/storage/redis.py",
        "await self._run(_GIVE_BACK, key, owner)",
        "pass",
        "storage/test_redis_lease",
    ),
    Mutation(
        "who is cancelled, or hears no answer, leaves no lease",
        "consumer/storage/redis.py",
        "            await leased(take, self._seconds)\n"
        "            yield\n        finally:",
        "            await leased(take, self._seconds)\n"
        "        except BaseException:\n            raise\n"
        "        try:\n            yield\n        finally:",
        "storage/test_redis_lease",
    ),
    Mutation(
        "a lock that cannot be taken is an error of ours",
        "consumer/storage/locks.py",
        "lock = await saved(take())",
        "lock = await take()",
        "storage/test_refresh_lock_fails",
    ),
    Mutation(
        "a lock may fail when it is given back",
        "consumer/storage/locks.py",
        "        if failed is not error:",
        "        if True:\n            raise",
        "storage/test_refresh_lock_fails",
    ),
    Mutation(
        "no lock swallows an error",
        "consumer/storage/locks.py",
        "        await _give_back(lock, blueprint, error)\n        raise",
        "        await _give_back(lock, blueprint, error)\n        return",
        "storage/test_refresh_lock_fails",
    ),
    Mutation(
        "enough of a lease is left",
        "consumer/storage/waiting.py",
        "if time.monotonic() - asked < max(_PROMPT, seconds * _SPENT):",
        "if True:",
        "storage/test_table_lease storage/test_redis_lease",
    ),
    Mutation(
        "whoever is too slow gives up",
        "consumer/storage/waiting.py",
        "for _ in range(_TIMES):",
        "for _ in range(99):",
        "storage/test_table_lease",
    ),
    Mutation(
        "Redis may fail when a lease ends",
        "consumer/storage/redis.py",
        "with suppress(StorageError):",
        "if True:",
        "storage/test_redis_lease",
    ),
    Mutation(
        "a lease in a table may be asked for again",
        "consumer/storage/leases.py",
        "            table.c.owner == owner,\n            #",
        "            #",
        "storage/test_table_lease",
    ),
    Mutation(
        "a clock may be set back",
        "consumer/storage/leases.py",
        "            table.c.until > now + max(100 * seconds, _LONGEST),\n",
        "",
        "storage/test_table_lease",
    ),
    Mutation(
        "a first lease leaves no gap locked",
        "consumer/storage/leases.py",
        "        connection.commit()\n",
        "",
        "processes/test_tables",
    ),
    Mutation(
        "a transaction says how isolated it is",
        "consumer/storage/database.py",
        'if database != "sqlite":',
        "if False:",
        "processes/test_tables",
    ),
    Mutation(
        "a connection that commits by itself has transactions",
        "consumer/storage/database.py",
        "        dialect.set_isolation_level(driver, level)",
        "        pass",
        "storage/test_sqla_autocommit.py::test_a_transaction_that_fails",
    ),
    Mutation(
        "a connection goes back as it came",
        "consumer/storage/database.py",
        'dialect.set_isolation_level(driver, "AUTOCOMMIT")',
        "pass",
        "storage/test_sqla_autocommit.py::test_the_application_writes_on",
    ),
    Mutation(
        "a connection that does not go back as it came is given up",
        "consumer/storage/database.py",
        "connection.invalidate()  #",
        "pass  #",
        "storage/test_sqla_autocommit.py::test_a_connection_that_cannot_be_set_back",
    ),
    Mutation(
        "a login whose row has gone is stored",
        "consumer/storage/rows.py",
        "if connection.execute(changed).rowcount == 1:",
        "if connection.execute(changed).rowcount in (0, 1):",
        "processes/test_tables",
    ),
    Mutation(
        "a cache tells the tables of a database apart",
        "consumer/storage/database.py",
        "*server, *where, table.name",
        "*server, table.name",
        "processes/test_addresses",
    ),
    Mutation(
        "a cache tells servers of PostgreSQL apart",
        "consumer/storage/database.py",
        "if not connection.exec_driver_sql(_MAY_ASK).scalar():",
        "if True:",
        "processes/test_addresses",
    ),
    Mutation(
        "a server may keep to itself which one it is",
        "consumer/storage/database.py",
        "if not connection.exec_driver_sql(_MAY_ASK).scalar():",
        "if False:",
        "processes/test_addresses",
    ),
    Mutation(
        "a cache tells servers of MariaDB apart",
        "consumer/storage/database.py",
        "return f\"{said.get('server_uid')} {said.get('hostname')}\"",
        'return ""',
        "processes/test_addresses",
    ),
    Mutation(
        "a cache tells a server and its copy apart",
        "consumer/storage/database.py",
        "return f\"{'localhost' if is_loopback(host) else host}:{url.port or port}\"",
        'return ""',
        "processes/test_addresses",
    ),
    Mutation(
        "this machine is one host by all its names",
        "consumer/storage/database.py",
        "'localhost' if is_loopback(host) else host",
        "host",
        "processes/test_addresses",
    ),
    Mutation(
        "a cache tells files of one name apart",
        "consumer/storage/database.py",
        "return path, str(found.st_dev), str(found.st_ino)",
        "return (path,)",
        "processes/test_addresses",
    ),
    Mutation(
        "a cache tells databases in memory apart",
        "consumer/storage/database.py",
        "return (secrets.token_hex(),)",
        'return ("",)',
        "processes/test_addresses",
    ),
    Mutation(
        "writers of SQLite take turns",
        "consumer/storage/table.py",
        'if kind is Work.READ or engine.dialect.name != "sqlite":',
        "if True:",
        "storage/test_sqla_writers",
    ),
    Mutation(
        "two may make the table of leases",
        "consumer/storage/leases.py",
        "            if not self.is_there(connection):",
        "            if True:",
        "storage/test_table_lease",
    ),
    Mutation(
        "a cache has a deadline",
        "consumer/storage/cache.py",
        "return await within(DEADLINE, call())",
        "return await call()",
        "storage/test_cache.py",
    ),
    Mutation(
        "an entry ends",
        "consumer/storage/cache.py",
        "return self._ttl if end is None else min(self._ttl, int(end - time.time()))",
        "return self._ttl",
        "storage/test_cache storage/test_redis",
    ),
    Mutation(
        "absence is forgotten soon",
        "consumer/storage/cache.py",
        "return min(self._ttl, ABSENCE_TTL)",
        "return self._ttl",
        "storage/test_cache storage/test_redis",
    ),
    # Secrecy, and the forgotten await
    Mutation(
        "the HTTP library does not log",
        "consumer/http.py",
        "return not _ours.get()",
        "return True",
        "dance/test_secrecy",
    ),
    Mutation(
        "a token masks itself",
        "oauth/token.py",
        "return f\"<Token {' '.join(shown)}>\"",
        "return dict.__repr__(self)",
        "oauth dance/test_secrecy",
    ),
    Mutation(
        "a storage's error is cleaned",
        "consumer/storage/base.py",
        "if any(secret[:8] in said for secret in _secrets(tokens)):",
        "if False:",
        "dance/test_signals dance/test_secrecy dance/test_storing_fails",
    ),
    Mutation(
        "an awaitable has no truth",
        "consumer/pending.py",
        "__bool__ = __len__ = __iter__ = _forgotten",
        "__iter__ = _forgotten",
        "dance/test_awaitables",
    ),
    Mutation(
        "a token is not assigned",
        "consumer/base.py",
        'raise TypeError("write `await blueprint.set_token(token)`")',
        "pass",
        "dance/test_awaitables",
    ),
    # Who meets whom
    Mutation(
        "a visitor's session is the request's",
        "consumer/room.py",
        "made = self._scope().setdefault(",
        "made = self.web.g.setdefault(",
        "dance/test_races",
    ),
    Mutation(
        "a background task has its own session",
        "consumer/room.py",
        "key = self, self.web.g._get_current_object()",
        "key = self",
        "dance/test_races dance/test_session dance/test_apps dance/test_isolation",
    ),
    Mutation(
        "visitors do not wait for each other's refresh",
        "consumer/storage/session.py",
        "async def refresh_lock(",
        "async def no_lock(",
        "dance/test_races",
    ),
    Mutation(
        "a refresh waits for a revocation",
        "consumer/room.py",
        "async with refresh_locked(self.async_storage, self):",
        "if True:",
        "dance/test_races",
    ),
    Mutation(
        "a replacement is one step",
        "consumer/storage/base.py",
        "async with turn(self, blueprint, **who):",
        "if True:",
        "dance/test_races",
    ),
    Mutation(
        "a new token waits for its turn",
        "consumer/consumer.py",
        "async with turn(self.async_storage, self):\n"
        "            await saved(self.async_storage.set(",
        "if True:\n            await saved(self.async_storage.set(",
        "dance/test_races",
    ),
    Mutation(
        "a logout waits for its turn",
        "consumer/consumer.py",
        "async with turn(self.async_storage, self):\n"
        "            await saved(self.async_storage.delete(",
        "if True:\n            await saved(self.async_storage.delete(",
        "dance/test_races",
    ),
    Mutation(
        "a late request sees the new login",
        "consumer/refresh.py",
        "if not await flight.replace(old, new) and known:",
        "if not await flight.replace(old, new) and False:",
        "dance/test_races",
    ),
    Mutation(
        "closing waits for every flight",
        "consumer/runtime.py",
        "while others := here.others():",
        "if others := here.others():",
        "dance/test_closing",
    ),
    Mutation(
        "a receiver that closes does not wait for itself",
        "consumer/runtime.py",
        "        return self.tasks - self._notifying\n",
        "        return self.tasks\n",
        "dance/test_closing",
    ),
    Mutation(
        "receivers that close do not wait for each other",
        "consumer/runtime.py",
        "return self.tasks - self._notifying",
        "return self.tasks - _callers.get()",
        "dance/test_closing",
    ),
    Mutation(
        "closing waits for receivers",
        "consumer/runtime.py",
        "if all(task.done() for task in _callers.get()):",
        "if False:",
        "dance/test_closing",
    ),
    Mutation(
        "two may close at once",
        "consumer/runtime.py",
        "here.pools.pop(key, None)",
        "here.pools.pop(key)",
        "dance/test_closing",
    ),
    Mutation(
        "threads open pools while others close",
        "consumer/runtime.py",
        "in list(self.sync_pools):",
        "in self.sync_pools:",
        "dance/test_closing",
    ),
    Mutation(
        "threads close at once",
        "consumer/runtime.py",
        "self.sync_pools.pop(place, None)",
        "self.sync_pools.pop(place)",
        "dance/test_closing",
    ),
    # What is refused
    Mutation(
        "a storage may be false",
        "consumer/consumer.py",
        "if storage is not None:",
        "if storage:",
        "dance/test_refusals",
    ),
    Mutation(
        "no token over plain http",
        "consumer/origins.py",
        "if not is_secure(str(url)):",
        "if False:",
        "dance/test_refusals",
    ),
    Mutation(
        "a header can carry the token that is set",
        "oauth/token.py",
        "if not has_access_token(token):",
        'if not token.get("access_token"):',
        "dance/test_refusals",
    ),
    Mutation(
        "a header can carry the token that is stored",
        "consumer/consumer.py",
        "if not has_access_token(token):",
        'if not isinstance(token.get("access_token"), str):',
        "dance/test_refusals",
    ),
    Mutation(
        "a form can carry the refresh token",
        "oauth/token.py",
        'if not is_visible((refresh_token or "").replace(" ", "")):',
        "if False:",
        "dance/test_refusals",
    ),
    Mutation(
        "no login without knowing the account",
        "consumer/dance.py",
        "        except (StorageError, UserRequiredError) as caught:\n",
        "        except () as caught:\n",
        "dance/test_refusals",
    ),
    Mutation(
        "the storage's error at the login is cleaned",
        "consumer/dance.py",
        "account = await saved(self.async_storage.account(self))",
        "account = await self.async_storage.account(self)",
        "dance/test_refusals",
    ),
    Mutation(
        "no token that has run out already",
        "consumer/dance.py",
        "if is_expired(token, now) and not can_refresh(self, token):",
        "if False:",
        "dance/test_refusals",
    ),
    Mutation(
        "a compressed answer has an end",
        "consumer/http.py",
        "if not stream.eof or len(body) > MAX_ANSWER:",
        "if False:",
        "dance/test_refusals",
    ),
    Mutation(
        "no access token after invalid_grant",
        "consumer/flow.py",
        "except (NotAuthorizedError, TokenExpiredError):\n",
        "except TokenExpiredError:\n",
        "dance/test_refusals",
    ),
    # What an application answers, and what we answer
    Mutation(
        "the login keeps the prefix's variables",
        "consumer/hooks.py",
        "web.url_for(endpoint, next=_here(web), **values)",
        "web.url_for(endpoint, next=_here(web))",
        "dance/test_answers",
    ),
    Mutation(
        "another account is no reason to log in",
        "consumer/flow.py",
        "error.blueprint = None",
        "pass",
        "dance/test_answers",
    ),
    Mutation(
        "only what we answer is handled",
        "consumer/hooks.py",
        "for kind in (NotAuthorizedError, TokenExpiredError, TokenRequestError):",
        "for kind in OAuthError.__subclasses__():",
        "dance/test_answers",
    ),
    Mutation(
        "the application's handler wins",
        "consumer/hooks.py",
        "if own := own_handler(quart):",
        "if (own := own_handler(quart)) and False:",
        "dance/test_answers",
    ),
    Mutation(
        "a request ends after all its hooks",
        "consumer/hooks.py",
        "app.after_request_funcs[None].insert(0, after_request)",
        "app.after_request(after_request)",
        "dance/test_answers",
    ),
    # Under Flask
    Mutation(
        "a login of our own needs its cookie",
        "flask/consumer/oauth2.py",
        "if mark == cookie_name(state) or (self.use_pkce and not verifier):",
        "if self.use_pkce and not verifier:",
        "flask/test_flask_dance",
    ),
    Mutation(
        "a login begun elsewhere needs its verifier",
        "flask/consumer/oauth2.py",
        "if mark == cookie_name(state) or (self.use_pkce and not verifier):",
        "if mark == cookie_name(state):",
        "flask/test_flask_dance",
    ),
    Mutation(
        "the state of a login begun elsewhere is compared",
        "flask/consumer/oauth2.py",
        "if not kept or not hmac.compare_digest(",
        "if not kept and not hmac.compare_digest(",
        "flask/test_flask_dance",
    ),
    Mutation(
        "a login begun elsewhere is forgotten",
        "flask/consumer/oauth2.py",
        "del flask.session[key]",
        "pass",
        "flask/test_flask_dance",
    ),
    Mutation(
        "only a fixed state comes twice",
        "flask/consumer/oauth2.py",
        "or state == self.state",
        "or True",
        "flask/test_flask_callback flask/test_flask_dance",
    ),
    Mutation(
        "the configuration of a visit is its own",
        "flask/consumer/oauth2.py",
        'self._of_visit("config", dict)',
        'self.__dict__.setdefault("_config", {})',
        "flask/test_flask_users",
    ),
    Mutation(
        "a waiting thread keeps no result",
        "flask/waiter.py",
        "self._loop.call_soon_threadsafe(_set, served, _outcome(call))",
        "outcome = _outcome(call)\n"
        "                self._loop.call_soon_threadsafe(_set, served, outcome)",
        "flask/test_flask_secrecy",
    ),
    # Sync code on an event loop
    Mutation(
        "a thread that runs an event loop does not wait",
        "flask/bridge.py",
        "if running is self._loop or not has_request_context():",
        "if running is self._loop:",
        "flask/test_sync_storage",
    ),
    Mutation(
        "what is broken off is cancelled",
        "flask/waiter.py",
        "self._task.cancel()",
        "pass",
        "flask/test_sync_storage_broken_off",
    ),
    Mutation(
        "what is served may wait in turn",
        "flask/waiter.py",
        "context.run(caller.set, None)",
        "",
        "flask/test_sync_storage",
    ),
    Mutation(
        "threads work when the main one has ended",
        "flask/bridge.py",
        'self.set_default_executor(Threads(thread_name_prefix="quart_dance"))',
        "",
        "flask/test_ending",
    ),
    Mutation(
        "what a pool has taken is done once",
        "flask/threads.py",
        'if "shutdown" not in str(refused):',
        "if False:",
        "flask/test_ending",
    ),
    Mutation(
        "no thread dies of what is cancelled",
        "flask/waiter.py",
        "except asyncio.CancelledError as error:",
        "except ZeroDivisionError as error:",
        "flask/test_sync_storage_broken_off",
    ),
    Mutation(
        "no thread dies of what it is called for",
        "flask/waiter.py",
        "except (Exception, asyncio.CancelledError) as error:",
        "except Exception as error:",
        "flask/test_sync_storage_broken_off",
    ),
    Mutation(
        "a subclass of SyncStorage has its way",
        "flask/async_storages.py",
        "if is_changed(self.storage):",
        "if False:",
        "flask/test_sync_storage",
    ),
    Mutation(
        "no visitor waits for another's refresh in a subclass",
        "flask/async_storages.py",
        "if not isinstance(self.storage, SyncStorage):",
        "if True:",
        "flask/test_flask_own_storages",
    ),
    Mutation(
        "a lock that is its process's holds off its tasks",
        "flask/async_storages.py",
        "if not isinstance(self.storage, SyncStorage):",
        'if not hasattr(self.storage, "refresh_lock"):',
        "flask/test_bridge_storages",
    ),
    Mutation(
        "a lock that comes too late is left",
        "flask/async_storages.py",
        "thread.submit(context.run, last)",
        "pass",
        "flask/test_bridge_storages",
    ),
    Mutation(
        "a session has no accounts",
        "consumer/room.py",
        'isinstance(getattr(self.storage, "async_storage", storage), SessionStorage)',
        "isinstance(storage, SessionStorage)",
        "flask/test_flask_own_storages",
    ),
    Mutation(
        "a child leaves the connections of its parent",
        "consumer/storage/table.py",
        "if not is_ours(engine, _leave_parents):",
        "if False:",
        "flask/test_bridge_processes::test_threads_and_a_fork",
    ),
    Mutation(
        "a child leaves connections that it does not use",
        "consumer/storage/forks.py",
        "os.register_at_fork(after_in_child=_leave_all)",
        "pass",
        "flask/test_bridge_forks::test_a_child_that_only_collects",
    ),
    Mutation(
        "a child leaves clients that it does not use",
        "consumer/storage/forks.py",
        "os.register_at_fork(after_in_child=_leave_all)",
        "pass",
        "flask/test_bridge_forks::test_a_child_that_throws_clients_away",
    ),
    Mutation(
        "a child leaves a client with a connection of its own",
        "consumer/storage/redis.py",
        'check_ours("the client of the RedisLease", self._redis, pool)',
        'check_ours("the client of the RedisLease", pool)',
        "flask/test_bridge_forks::test_a_child_that_throws_clients_away",
    ),
    Mutation(
        "a child does not use its parent's clients",
        "consumer/storage/forks.py",
        "if not all([is_ours(thing) for thing in things]):",
        "if not [is_ours(thing) for thing in things]:",
        "flask/test_bridge_forks::test_a_fork_with_redis",
    ),
    Mutation(
        "a child does not use its parent's clients in another storage",
        "consumer/storage/redis.py",
        'check_ours("the client of the RedisLease", self._redis, pool)',
        'check_ours("the client of the RedisLease", self)',
        "flask/test_bridge_forks::test_a_fork_with_redis",
    ),
    Mutation(
        "clients that share a pool are one",
        "consumer/storage/redis.py",
        'check_ours("the client of the RedisLease", self._redis, pool)',
        'check_ours("the client of the RedisLease", self._redis)',
        "flask/test_bridge_forks::test_a_fork_with_redis",
    ),
    Mutation(
        "a child does not use its parent's cache in another storage",
        "consumer/storage/cache.py",
        'check_ours("the cache", self._cache)',
        'check_ours("the cache", self)',
        "storage/test_forks",
    ),
    Mutation(
        "a client that is no more leaves no trace",
        "consumer/storage/forks.py",
        "return ref(thing, lambda _: _used.pop(key, None))",
        "raise TypeError",
        "storage/test_forks",
    ),
    Mutation(
        "a child has an event loop of its own",
        "flask/bridge.py",
        "    if _bridge.process != os.getpid():\n        with",
        "    if False:\n        with",
        "flask/test_bridge_forks::test_a_fork_that_python_does_not_hear_of",
    ),
    Mutation(
        "the end waits for a refresh",
        "flask/bridge.py",
        "self._await(self._flights(), loop, deadline + SAVING + _CLOSING)",
        "pass",
        "flask/test_bridge_processes::test_end_while_a_token_is_refreshed",
    ),
    Mutation(
        "the end waits for nothing where nothing is refreshed",
        "flask/bridge.py",
        "if any(state.tasks for state in states):",
        "if states:",
        "flask/test_ending",
    ),
    Mutation(
        "no refresh begins while the process ends",
        "consumer/flight.py",
        "if self.runtime.here.ending:",
        "if False:",
        "dance/test_closing",
    ),
    Mutation(
        "a refresh is told that the process ends",
        "flask/bridge.py",
        "state.ending = True",
        "pass",
        "flask/test_ending",
    ),
    Mutation(
        "the end lets nobody in",
        "flask/bridge.py",
        "        self.gate.close()\n        loop",
        "        loop",
        "flask/test_bridge_processes::test_calls_at_the_end",
    ),
    Mutation(
        "threads are threads",
        "flask/consumer/oauth2.py",
        "        check_threads()\n",
        "",
        "flask/test_gunicorn::test_gevent",
    ),
]


def survives(mutation: Mutation) -> bool:
    """Say whether the tests stay green without a check."""
    status, said = run_tests(mutation)
    if status not in (0, 1):
        sys.exit(f"{mutation.name}: pytest failed\n{said}")
    return status == 0


def run_tests(mutation: Mutation) -> tuple[int, str]:
    """Apply a mutation to a copy of the tree, and return how its tests end there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("quart_dance", "tests", "docs"):
            ignore = shutil.ignore_patterns("__pycache__", "_build")
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        apply(mutation, copy / "quart_dance" / mutation.file)
        tests = [
            str(found.relative_to(copy)) + name
            for pattern, name in map(_parted, mutation.tests.split())
            for found in sorted((copy / "tests").glob(f"{pattern}*"))
        ]
        command = [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": folder}
        run = subprocess.run(
            [*command, *tests], cwd=copy, env=environment, capture_output=True
        )
        return run.returncode, run.stdout.decode()[-2000:]


def apply(mutation: Mutation, path: Path) -> None:
    """Take a check out of a file."""
    text = path.read_text()
    if text.count(mutation.old) != 1:
        sys.exit(f"{mutation.name}: not in {mutation.file}: {mutation.old}")
    path.write_text(text.replace(mutation.old, mutation.new))


def _parted(tests: str) -> tuple[str, str]:
    """Return how the files of some tests begin, and which of their names is meant."""
    pattern, colons, name = tests.partition("::")
    return pattern, colons + name


def main(names: list[str]) -> int:
    """Run all mutations, or those named, and return the exit status.

    Args:
        names: Of mutations, or of the folders that all of a mutation's tests are in.
    """
    chosen = [
        m
        for m in MUTATIONS
        if not names
        or m.name in names
        or {test.partition("/")[0] for test in m.tests.split()} <= set(names)
    ]
    tests = " ".join(sorted({test for m in chosen for test in m.tests.split()}))
    nothing = "class StorageError"
    status, said = run_tests(Mutation("none", "errors.py", nothing, nothing, tests))
    if status != 0:
        sys.exit(f"the tests are red as they are: first make them green\n{said}")
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutation, alive in zip(chosen, pool.map(survives, chosen), strict=True):
            survivors += alive
            print(f"{'SURVIVES' if alive else 'killed  '}  {mutation.name}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
