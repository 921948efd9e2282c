"""Printing on a console whose encoding may lack letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_ASCII = str.maketrans({"✓": "+", "✕": "x", "×": "x", "±": "+/-", "–": "-", "−": "-", "…": "~", "δ": "d"})


def print_plain(console: Console, renderable: RenderableType, *, soft_wrap: bool = False) -> None:
    """Print in the letters that the console has; elsewhere an encoding error would end the command."""
    if not console.options.ascii_only:
        console.print(renderable, soft_wrap=soft_wrap)
        return
    with console.capture() as captured:
        console.print(renderable, soft_wrap=soft_wrap)
    console.file.write(captured.get().translate(_ASCII).encode("ascii", "replace").decode("ascii"))
