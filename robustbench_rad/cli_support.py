"""What every command shares: output switches, consoles, errors and exit codes. Imports nothing heavy."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from robustbench_rad.errors import RobustbenchRadError

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., None])

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and the result.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="More detail; tracebacks of internal errors.")]
NoColorOption = Annotated[bool, typer.Option("--no-color", help="No colour; NO_COLOR is honoured too.")]


class ExitCode(IntEnum):
    """What a command tells its caller."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INTERNAL = 4
    INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a command writes: results to stdout, everything else to stderr."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False

    @property
    def console(self) -> Console:
        """For results."""
        return self._console(stderr=False)

    @property
    def messages(self) -> Console:
        """For progress and messages."""
        return self._console(stderr=True)

    def _console(self, *, stderr: bool) -> Console:
        from rich.console import Console

        # A CI log is not a terminal; eighty columns would break its tables.
        width = 120 if os.environ.get("CI") and not os.environ.get("COLUMNS") else None
        return Console(stderr=stderr, no_color=self.no_color or None, width=width, highlight=False)

    def print_json(self, content: object) -> None:
        """Write the one JSON object."""
        sys.stdout.write(json.dumps(content, indent=1, default=str) + "\n")

    def say(self, text: str) -> None:
        """Write a message for a person."""
        if not self.quiet:
            self.messages.print(text, markup=False, soft_wrap=True)


def command(function: Command) -> Command:
    """Turn errors into a message and an exit code; never a traceback for what the user can put right."""

    @functools.wraps(function)
    def guarded(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passes a command's own options on
        output = Output(
            json=options.get("as_json", False),
            quiet=options.get("quiet", False),
            verbose=options.get("verbose", False),
            no_color=options.get("no_color", False),
        )
        try:
            function(*arguments, **options)
        except RobustbenchRadError as error:
            _report(output, "error", error.message, error.hint)
            raise typer.Exit(ExitCode.USAGE) from error
        except KeyboardInterrupt as error:
            _report(
                output,
                "interrupted",
                "stopped by Ctrl-C",
                "Finished chunks are kept: run the same command to continue.",
            )
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(ExitCode.OK) from None
        except Exception as error:
            if output.verbose:
                traceback.print_exc()
            hint = "This is a bug of robustbench-rad. Run again with --verbose and report what it prints."
            _report(output, "internal error", f"{type(error).__name__}: {error}", hint)
            raise typer.Exit(ExitCode.INTERNAL) from error

    guarded.__doc__ = _paragraphs(function.__doc__ or "")
    return guarded  # type: ignore[return-value]


def _paragraphs(text: str) -> str:
    r"""A docstring with one line for each paragraph: help is wrapped to the terminal, not where the source breaks.

    >>> _paragraphs("First.\n\n    A longer\n    one.")
    'First.\n\nA longer one.'
    """
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _report(output: Output, kind: str, message: str, hint: str | None) -> None:
    if output.json:
        output.print_json({"error": {"kind": kind, "message": message, "hint": hint}})
    console = output.messages
    console.print(f"{kind}: {message}", style="bold red", markup=False, soft_wrap=True)
    if hint:
        console.print(f"  {hint}", markup=False, soft_wrap=True)
