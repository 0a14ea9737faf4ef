"""The command ``quart-dance``, which is also ``quart dance``."""

from __future__ import annotations

import click

from . import __version__


class _Commands(click.Group):
    """Imports a command when it is asked for: `quart` imports us for its own, too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["demo", "sqla"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "demo":
            from .demo.command import demo

            return demo
        if cmd_name == "sqla":
            from .sqla_command import sqla

            return sqla
        return None


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="quart-dance")
def main() -> None:
    """OAuth for Quart: try it out on this machine, prepare a database."""
