"""The commands ``quart-dance sqla``: for tables of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .errors import UpgradeError

if TYPE_CHECKING:
    from .consumer.storage.upgrade import Upgrade

#: The exit code that says that there is something to do.
TO_DO = 3


@click.group()
def sqla() -> None:
    """Tables of tokens, that SQLAlchemyStorage uses."""


@sqla.command()
@click.option(
    "--url",
    required=True,
    envvar="QUART_DANCE_DATABASE_URL",
    show_envvar=True,
    help="SQLAlchemy's URL of the database. Others can read it in the list of "
    "processes; the variable they cannot.",
)
@click.option(
    "--table",
    default="flask_dance_oauth",
    show_default=True,
    help="The table of the tokens.",
)
@click.option("--schema", help="Where that is, if it is not found without.")
@click.option(
    "--user-column",
    help="The column that tells users apart. The default is user_id, where nothing "
    "else may be meant.",
)
@click.option(
    "--shared",
    is_flag=True,
    help="There is no such column: all users share one token for each provider.",
)
@click.option("--apply", is_flag=True, help="Do it. Without this it is only told.")
@click.pass_context
def upgrade(ctx: click.Context, /, apply: bool, **options: Any) -> None:
    """Make a table that Flask-Dance made fast and safe.

    Removes all but the newest token of each account, and adds unique indexes and a
    small table for the leases of refreshes. What it would do it tells first; nothing
    changes without --apply. A second run has nothing to do.

    Exits with 0 if nothing is left to do, with 3 if something is, with 1 if it cannot
    be done.
    """
    try:
        from .sqla_url import upgrade_by_url
    except ModuleNotFoundError as missing:
        raise click.ClickException(
            f"{missing.name} is not installed. Install the extra of your database: "
            "quart_dance[postgresql], quart_dance[mariadb], or quart_dance[sqla] for "
            "SQLite."
        ) from None
    try:
        done = upgrade_by_url(apply=apply, **options)
    except UpgradeError as error:
        raise click.ClickException(f"{error}.") from None
    _report(done, apply)
    ctx.exit(0 if apply or not done.statements else TO_DO)


def _report(done: Upgrade, applied: bool) -> None:
    if not done.statements:
        click.echo("There is nothing to do.")
        return
    total = sum(account.count for account in done.surplus)
    if total:
        click.echo(f"Older tokens {'removed' if applied else 'to remove'}: {total}")
    for account in done.surplus:
        # As Python writes them: a name may hold anything that a terminal acts on.
        whose = "nobody" if account.user is None else f"user {account.user!r}"
        click.echo(f"  {account.provider!r}, {whose}: {account.count}")
    click.echo("Done:" if applied else "To do:")
    for statement in done.statements:
        click.echo(f"  {statement};")
    if not applied:
        click.echo("Nothing has been changed. To do it, add --apply.")
