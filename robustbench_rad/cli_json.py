"""Arguments that do not fit, as JSON for those who asked for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import typer
from typer.core import TyperGroup

from robustbench_rad.cli_support import Output

UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
"""What typer raises for arguments that do not fit; newer typer brings its own click, so it is not ``click.UsageError``."""
AnyContext: TypeAlias = Any  # a click context, of whichever click
_JSON_WANTED = f"{__name__}.wanted"


class JsonErrorsGroup(TyperGroup):
    """The root of the commands; with ``--json`` an argument that does not fit is one JSON object too.

    The error goes on to typer, which writes its message to stderr and sets the exit code.
    """

    def parse_args(self, ctx: AnyContext, args: list[str]) -> list[str]:
        """Parse what stands before the command, and note whether JSON is wanted anywhere."""
        ctx.meta[_JSON_WANTED] = "--json" in args
        with _usage_errors(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: AnyContext) -> Any:  # noqa: ANN401 - what the base class gives
        """Parse the rest and run the command."""
        with _usage_errors(ctx):
            return super().invoke(ctx)


@contextmanager
def _usage_errors(context: AnyContext) -> Iterator[None]:
    """Write a usage error as JSON where it is wanted, and let it go on."""
    try:
        yield
    except UsageError as error:
        if context.meta[_JSON_WANTED]:
            place = getattr(error, "ctx", None) or context
            hint = f"Try '{place.command_path} --help' for help."
            content = {"kind": "usage error", "message": error.format_message(), "hint": hint}
            Output(json=True).print_json({"error": content})
        raise
