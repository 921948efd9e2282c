"""A plan as commented text: every line carries where its value comes from.

``seen`` was read from the files; ``guessed, check`` is likely but not certain; ``decide`` only the user can know.
Names and paths of the user are quoted for TOML, and control characters never reach a comment or a terminal.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from robustbench_rad.errors import DataError

WIDTH = 118
FURTHEST_COMMENT = 40  # comments beside longer assignments are not aligned
MOST_STEPS_UP = 3  # beyond "../../.." an absolute path reads better

Value = str | bool | int | float | Sequence["Value"] | Mapping[str, "Value"]


class Kind(StrEnum):
    """How sure a line is."""

    SEEN = "seen"
    GUESSED = "guessed, check"
    DECIDE = "decide"


@dataclass(frozen=True, kw_only=True)
class Note:
    """Where a value comes from."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {plain(self.text)}"


def seen(text: str) -> Note:
    """Make a note on what was read from the files."""
    return Note(kind=Kind.SEEN, text=text)


def guessed(text: str) -> Note:
    """Make a note on what is likely."""
    return Note(kind=Kind.GUESSED, text=text)


def decide(text: str) -> Note:
    """Make a note on what only the user can know."""
    return Note(kind=Kind.DECIDE, text=text)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a plan.

    Attributes:
        key: The key; "" for a remark that stands by itself.
        value: Its value.
        note: Where it comes from.
        active: False: the line is written as a comment, to be taken up by the user.
    """

    key: str = ""
    value: Value = ""
    note: Note | None = None
    active: bool = True

    @property
    def assignment(self) -> str:
        """``key = value``, commented out when not active."""
        return f"{'' if self.active else '# '}{toml_key(self.key)} = {toml(self.value)}"

    def said(self, section: str) -> str:
        """The line for the terminal; "" without a note."""
        if self.note is None:
            return ""
        if not self.key:
            return str(self.note)
        place = f"{section}.{self.key}" if section else self.key
        value = f" = {toml(self.value)}" if self.active else ""
        return f"{self.note.kind}: {plain(place + value)}: {plain(self.note.text)}"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of a plan; ``name`` "" is the top of the file."""

    name: str = ""
    entries: tuple[Entry, ...] = ()


def render(head: Sequence[str], sections: Sequence[Section]) -> str:
    """Write a plan file."""
    blocks = ["\n".join(f"# {line}".rstrip() for line in head)]
    blocks += ["\n".join(_section_lines(section)) for section in sections]
    return "\n\n".join(blocks) + "\n"


def _section_lines(section: Section) -> Iterator[str]:
    if section.name:
        yield f"[{section.name}]"
    lengths = [len(entry.assignment) for entry in section.entries if entry.key]
    column = max((length for length in lengths if length <= FURTHEST_COMMENT), default=0) + 2
    for entry in section.entries:
        yield from _entry_lines(entry, column)


def _entry_lines(entry: Entry, column: int) -> Iterator[str]:
    note = "" if entry.note is None else f"# {entry.note}"
    if not entry.key:
        yield from _wrapped(note)
        return
    beside = f"{entry.assignment:<{column}}{note}".rstrip()
    if len(entry.assignment) >= column:
        beside = f"{entry.assignment}  {note}".rstrip()
    if len(beside) <= WIDTH:
        yield beside
        return
    yield from _wrapped(note)
    yield from _folded(entry)


def _folded(entry: Entry) -> list[str]:
    """A long list over several lines, as TOML allows; anything else on one."""
    long = len(entry.assignment) > WIDTH and entry.active
    if not long or isinstance(entry.value, str) or not isinstance(entry.value, Sequence):
        return [entry.assignment]
    lines = [""]
    for item in map(toml, entry.value):
        if lines[-1] and len(lines[-1]) + len(item) + 4 > WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else '  '}{item},"
    return [f"{toml_key(entry.key)} = [", *lines, "]"]


def _wrapped(comment: str) -> list[str]:
    return textwrap.wrap(comment, WIDTH, subsequent_indent="#   ", break_long_words=False, break_on_hyphens=False)


def toml(value: Value) -> str:
    """A value in TOML, on one line.

    >>> toml({"a b": ["x", 1, 0.5, True]})
    '{ "a b" = ["x", 1, 0.5, true] }'
    """
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml_key(key)} = {toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def toml_key(key: str) -> str:
    """A key, quoted where it must be."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_string(key)


def toml_string(text: str) -> str:
    """A basic string: as JSON writes it, and DEL escaped, which JSON leaves.

    Raises:
        DataError: A name that is not valid Unicode, as old file systems have them.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{plain(text)!r}: expected a name in Unicode, got bytes that no plan file can hold",
            hint="Rename the file or folder.",
        ) from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def plain(text: str) -> str:
    r"""Text on one line without control characters.

    >>> plain("a\x1b[31m\n b")
    'a [31m b'
    """
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def place(path: Path, base: Path) -> str:
    """A path as the plan in folder ``base`` writes it: relative where that reads well, symbolic links as they were named."""
    target = path.absolute()
    try:
        relative = Path(os.path.relpath(target, base.absolute()))
    except ValueError:  # another drive
        return target.as_posix()
    odd = relative.parts.count("..") > MOST_STEPS_UP or relative.as_posix().startswith("~")
    elsewhere = (base / relative).resolve() != target.resolve()  # ".." behind a link leads out of what it points to
    return target.as_posix() if odd or elsewhere else relative.as_posix()


def listed(items: Sequence[object], most: int = 6) -> str:
    """Name the first few and count the rest.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    text = ", ".join(plain(str(item)) for item in items[:most])
    return text if len(items) <= most else f"{text} and {len(items) - most} more"
