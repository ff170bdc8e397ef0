"""Commands that are imported when they are asked for: what lints policies is no part of what serves jobs.

`serve` would carry 6 MB of authors' tools for its whole life, and `health` would start in twice the time.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """A group of commands by name. A class of its own a group names them: `class Root(LazyGroup): later = {...}`."""

    later: ClassVar[Mapping[str, str]]  # name -> "module:attribute", a function or a Typer of several

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order that they were written in."""
        return [*super().list_commands(ctx), *self.later]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import it, once."""
        if cmd_name in self.later and cmd_name not in self.commands:
            module, _, attribute = self.later[cmd_name].partition(":")
            command = _command(getattr(import_module(module), attribute))
            command.name = cmd_name
            self.add_command(command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """An unknown name: the nearest known one is told, so all have to be known."""
        if args and args[0] not in self.later:
            for name in self.later if args[0] not in self.commands else ():
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _command(found: Any) -> Any:
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(found)
    return typer.main.get_command(alone)
