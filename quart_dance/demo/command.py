"""The command ``quart-dance demo``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

from ..testing.faults import CHOICES
from .check import check as check_demo
from .serve import Demo, PortError, create_demo

T = TypeVar("T")
PORT = click.IntRange(0, 65535)


@click.command()
@click.option(
    "--port",
    type=PORT,
    default=5000,
    show_default=True,
    help="Port of the sample application; 0 for any free one.",
)
@click.option(
    "--provider-port",
    type=PORT,
    default=5001,
    show_default=True,
    help="Port of the provider; 0 for any free one.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Walk through it all without a browser, say a line for each step, and exit "
    "with 0 if all is well, else with 1.",
)
@click.option(
    "--fault",
    type=click.Choice(list(CHOICES)),
    help="With --check: what the provider does wrong in the first login.",
)
@click.pass_context
def demo(
    ctx: click.Context, port: int, provider_port: int, check: bool, fault: str | None
) -> None:
    """Log in at a provider on your own machine.

    Starts DevProvider, an OAuth 2.0 provider with two made-up people, and a sample
    application that logs its visitors in there. Both listen on loopback only; a port
    that is taken is replaced by the next free one.
    """
    if fault and not check:
        raise click.UsageError("--fault goes with --check")
    try:
        pair = create_demo(port, provider_port)
    except PortError as error:
        raise click.ClickException(f"the demo cannot start: {error}.") from None
    _say_if_moved("application", port, pair.port)
    _say_if_moved("provider", provider_port, pair.provider_port)
    if check:
        if not _run(_check(pair, fault or "")):
            ctx.exit(1)
    else:
        _run(_serve(pair))


def _run(work: Coroutine[object, object, T]) -> T:
    try:
        return asyncio.run(work)
    except ExceptionGroup as group:
        reasons = "; ".join(f"{type(e).__name__}: {e}" for e in group.exceptions)
        raise click.ClickException(f"the demo has failed: {reasons}") from None


def _say_if_moved(what: str, wanted: int, got: int) -> None:
    if wanted not in (0, got):
        click.echo(f"Port {wanted} is taken: the {what} is on port {got}.")


async def _check(pair: Demo, fault: str) -> bool:
    async with pair.serving():
        return await check_demo(pair, click.echo, fault=fault)


async def _serve(pair: Demo) -> None:
    with _stopped_by_signals() as stop:
        async with pair.serving():
            click.echo(f"Provider:           {pair.provider.url}")
            click.echo(f"Sample application: {pair.url}")
            click.echo()
            click.echo(f"Open {pair.url} in a browser and log in as Alice or Bob.")
            click.echo("No password is needed. Press Ctrl-C here to stop.")
            await stop.wait()
    click.echo("Stopped.")


@contextmanager
def _stopped_by_signals() -> Iterator[asyncio.Event]:
    """Give an event that the first Ctrl-C or SIGTERM sets; a second one kills."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def handle(number: int, _: object) -> None:
        for each in signals:
            signal.signal(each, before[each])
        loop.call_soon_threadsafe(stop.set)

    # Not loop.add_signal_handler, which Windows does not have.
    before = {each: signal.signal(each, handle) for each in signals}
    try:
        yield stop
    finally:
        for each in signals:
            signal.signal(each, before[each])
