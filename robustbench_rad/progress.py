"""How a long run tells what it is doing; the default says nothing."""

from __future__ import annotations


class Progress:
    """Receives what happens; subclasses show it. Every method may be called from the main thread only."""

    def stage(self, name: str, total: int, unit: str = "cases") -> None:
        """A stage begins: ``total`` units of work, 0 when unknown."""

    def condition(self, name: str) -> None:
        """The stage now works on this condition."""

    def advance(self, done: int) -> None:
        """``done`` more units are finished."""

    def chunk(self, number: int, of: int) -> None:
        """A chunk is finished and on disk."""

    def message(self, text: str) -> None:
        """Something the user should know."""

    def close(self) -> None:
        """The run is over, whatever the reason."""
