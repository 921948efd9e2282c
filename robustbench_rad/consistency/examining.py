"""One row of a published table: whole numbers where they can be searched, else any."""

from __future__ import annotations

from collections.abc import Mapping

from robustbench_rad.consistency.figures import Counts, Printed
from robustbench_rad.consistency.real_tables import real_tables
from robustbench_rad.consistency.report import Consistency, Report
from robustbench_rad.consistency.whole_tables import searchable, whole_tables


def examine(printed: Mapping[str, Printed], counts: Counts | None = None) -> Report:
    """Say whether printed figures can come from one confusion table.

    Args:
        printed: Figures by their name in ``FIGURES``.
        counts: Number of cases and of each class, as far as known.

    >>> report = examine({name: Printed.read(text) for name, text in
    ...                   [("precision", ".970"), ("recall", ".968"), ("f1", ".967")]})
    >>> str(report.verdict), round(report.figures[2].low, 4), round(report.figures[2].high, 4)
    ('cannot hold together', 0.9685, 0.9695)
    """
    known, conflict = (counts or Counts()).complete()
    if conflict:
        return Report(verdict=Consistency.IMPOSSIBLE, reason=conflict)
    if not printed:
        return Report(verdict=Consistency.UNKNOWN, reason="no figure was given")
    if searchable(known):
        return whole_tables(printed, known)
    notes = ("the cases are too many to search without the class counts: whole numbers were not asked for",)
    return real_tables(printed, notes if known.n is not None else ())
