"""The words of a result: verdicts, families of checks, names that stand for something."""

from __future__ import annotations

from enum import StrEnum

NOT_RUN = "not run"
"""Quantity of the criterion that stands for a check which did not run at all."""

DEFENCES = "model.defences"
"""Check of the tables that set a defended model beside the same model without its defences."""


class Verdict(StrEnum):
    """The three judgements, and what was only shown."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INFORMATIONAL = "informational"


class Domain(StrEnum):
    """Families of checks, in the order of a report."""

    CLEAN = "clean"
    ADVERSARIAL = "adversarial"
    ACQUISITION_SHIFT = "acquisition-shift"
    SHORTCUT = "shortcut"
    SALIENCY = "saliency"
    SUBGROUP = "subgroup"
