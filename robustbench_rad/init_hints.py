"""What the words around a factory say of its model: read from the source text, never run.

A docstring is not a contract, so all of this ends up as "guessed, check".
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_WORDS = 6  # of a class name


@dataclass(frozen=True, kw_only=True)
class Hints:
    """Words on one factory.

    Attributes:
        text: Its docstring, and the paragraphs of the module's docstring that name it.
        source: File name, for comments.
    """

    text: str = ""
    source: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and size from something like ``(N, 3, 224, 224)``; empty when there is none."""
        found = re.search(r"\(\s*[A-Z]\w*\s*,\s*(\d+)((?:\s*,\s*\d+){2,3})\s*\)", self.text)
        return (int(found[1]), *map(int, re.findall(r"\d+", found[2]))) if found else ()

    @property
    def range(self) -> tuple[float, float] | None:
        """Input range from "in [0, 1]"."""
        found = re.search(r"in \[\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*\]", self.text)
        return (float(found[1]), float(found[2])) if found and float(found[1]) < float(found[2]) else None

    @property
    def exclusive(self) -> bool:
        """Whether the classes are said to exclude each other."""
        return bool(re.search(r"softmax|exclusive|multi-?class\b", self.text, re.IGNORECASE))

    @property
    def imagenet(self) -> bool:
        """Whether inputs are said to be normalised as for ImageNet."""
        return bool(re.search(r"imagenet[\s-]+(?:mean|normali|statistic)", self.text, re.IGNORECASE))

    @property
    def resize(self) -> str:
        """One of stretch, pad and crop, if exactly one is named."""
        kinds = {"stretch": r"\bstretch", "pad": r"\b(?:zero-?)?padded\b|letterbox", "crop": r"cent(?:er|re)[- ]crop"}
        named = [kind for kind, pattern in kinds.items() if re.search(pattern, self.text, re.IGNORECASE)]
        return named[0] if len(named) == 1 else ""

    def names(self, known: Iterable[str]) -> tuple[str, ...]:
        """Known names that the text mentions, in the order it does."""
        places = {name: found.start() for name in known if (found := re.search(_pattern(name), self.text, re.I))}
        return tuple(sorted(places, key=places.__getitem__))

    def classes(self, count: int) -> tuple[str, ...]:
        """A list of ``count`` names after a word such as "classes"; empty when there is none."""
        item = rf"[^\W\d][\w-]*(?: [\w-]+){{0,{MOST_WORDS - 1}}}"
        listing = (
            rf"\b(?:classes|outputs|labels|findings)\b\s*[:,=(\[]*\s*({item}(?:,\s*(?:and )?{item}){{{count - 1}}})"
        )
        found = re.search(listing + r"\s*(?:[;.)\]]|$)", " ".join(self.text.split()), re.IGNORECASE)
        return tuple(re.split(r",\s*(?:and )?", found[1])) if found and count > 1 else ()


def read_hints(factory: str, base: Path) -> Hints:
    """Read the words around a factory; none when its source cannot be found."""
    place, _, name = factory.rpartition(":")
    path = base / Path(place).expanduser() if place.endswith(".py") else _file_of(place)
    try:
        tree = ast.parse(path.read_text("utf-8")) if path else ast.Module(body=[], type_ignores=[])
    except (OSError, ValueError, SyntaxError):
        return Hints()
    texts = [*_docstrings(tree, name.split(".")), *_blocks(ast.get_docstring(tree) or "", name)]
    return Hints(text="\n".join(texts), source=path.name if path else "")


def _file_of(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and file.endswith(".py") else None


def _docstrings(tree: ast.Module, names: Sequence[str]) -> list[str]:
    wanted = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and node.name in names
    ]
    return [text for node in wanted if (text := ast.get_docstring(node))]


def _blocks(text: str, name: str) -> list[str]:
    """Paragraphs and list items that mention the factory."""
    blocks = re.split(r"\n\s*\n|\n\s*(?=[-*•] )", text)
    return [block for block in blocks if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", block)]


def _pattern(name: str) -> str:
    """A name as prose may write it: "No_Finding" is "no finding" too."""
    parts = [re.escape(part) for part in re.split(r"[\W_]+", name) if part]
    return r"(?<![A-Za-z0-9])" + r"[\s_-]*".join(parts) + r"(?![A-Za-z0-9])" if parts else r"(?!)"
