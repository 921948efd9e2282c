"""Every error a user can meet, as one tree.

RobustbenchRadError
├── PlanError            a plan or profile file says something that cannot be done
├── ModelError           the classifier cannot be loaded, or does not behave as declared
├── DataError            the manifest, the labels or the masks
│   └── ImageError       one image file: unreadable, wrong unit, outside its declared range
├── MissingExtraError    an optional package is needed; the message holds the pip line
├── RunFolderError       the run folder belongs to another audit or cannot be written
│   └── RunFolderBusyError   another process works in it
└── StatisticsError      an estimator was given data it is not defined for

A message says what was expected, what came, where, and what to do next. The command line prints it without a traceback
and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobustbenchRadError(Exception):
    """The root: anything the user can put right.

    Args:
        message: What was expected, what came, and where.
        hint: What to do next, one sentence.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class PlanError(RobustbenchRadError):
    """A plan or profile file says something that cannot be done."""


class ModelError(RobustbenchRadError):
    """The classifier cannot be loaded, or does not behave as declared."""


class DataError(RobustbenchRadError):
    """The manifest, the labels or the masks are not as declared."""


class ImageError(DataError):
    """One image file is unreadable, has another unit, or lies outside its declared range."""


class MissingExtraError(RobustbenchRadError):
    r"""An optional package is needed.

    >>> str(MissingExtraError("NIfTI files", package="nibabel", extra="nifti"))
    "NIfTI files need the package nibabel\n  pip install 'robustbench-rad[nifti]'"

    Args:
        what: Who needs it, in the plural.
        package: The package.
        extra: The extra that brings it.
        install: What to type instead, for a package that no extra can bring.
    """

    def __init__(self, what: str, *, package: str, extra: str = "", install: str = "") -> None:
        super().__init__(
            f"{what} need the package {package}", hint=install or f"pip install 'robustbench-rad[{extra}]'"
        )


class RunFolderError(RobustbenchRadError):
    """The run folder belongs to another audit, or cannot be written."""


class RunFolderBusyError(RunFolderError):
    """Another process works in the run folder."""


class StatisticsError(RobustbenchRadError):
    """An estimator was given data it is not defined for."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Name the nearest known word, or list them all.

    >>> suggestion("tolerence", ["tolerance", "critical"])
    "Did you mean 'tolerance'?"
    >>> suggestion("zebra", ["tolerance", "critical"])
    'Known: critical, tolerance.'
    """
    choices = sorted(known)
    near = nearest(word, choices)
    return f"Known: {', '.join(choices)}." if near is None else f"Did you mean {near!r}?"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is spelt most like ``word``; None where none is near.

    >>> nearest("nuisanse", ["nuisance", "demographic"])
    'nuisance'
    """
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1)), None)
