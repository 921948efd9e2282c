"""Spike and recovery: would the audits see a shortcut of known strength in these very images?

A known marker is implanted into images of the data set, and ``b`` SD of the margin are added where it shows: a model that
has learned it, whatever else it has learned. The audits then judge that model. The smallest strength that they report is
their limit of detection at this number of cases; *no shortcut found* means nothing below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from robustbench_rad.conditions import (
    Applied,
    Batch,
    CaseVector,
    Condition,
    Measurement,
    ModelQuery,
    State,
    Variant,
)
from robustbench_rad.registry import register
from robustbench_rad.shortcuts import _spike

CLEAN = "clean"
MARGINS, SEEN = "margins", "seen"
UNJUDGED = {"shortcut.masked-anatomy": ("shape-only", "own-mean")}
"""Levels that the verdict of an audit does not rest on: no pass is spent on them."""


def vector_name(condition: str, level: str, quantity: str) -> str:
    """Name under which the vectors of an audit's level are kept.

    >>> vector_name("shortcut.masked-anatomy", "atlas-mean", SEEN)
    'shortcut.masked-anatomy|atlas-mean|seen'
    """
    return f"{condition}|{level}|{quantity}"


@register(
    id="shortcut.spike-and-recovery",
    version=1,
    space="display",
    domain="shortcut",
    kind="categorical",
    reference="Armbruster and Pry 2008, Limit of blank, limit of detection and limit of quantitation, Clin Biochem Rev 29 S1",
    unit="SD of the margin",
)
@dataclass(frozen=True, kw_only=True)
class SpikeAndRecovery(Condition):
    """Implant a known marker, and see from which strength on the shortcut audits report it.

    Every image is asked once with the marker, and once more for each judged level of each audit; all strengths, findings and
    associations are made from these by addition, for the implanted model is ``margin + b SD(margin) * marker seen``.

    Kept for each of these images: vectors ``<audit>|<level>|margins``, ``(N, K)`` with the marker in the image before the
    audit altered it, and ``<audit>|<level>|seen``, ``(N, 2)`` how much of it shows without and with.

    Attributes:
        strengths: Strengths b that are tried, in SD of the finding's margin.
        association: P(marker | finding) = 1 - P(marker | no finding).
        draws: How often the marker is dealt out anew; a strength is recovered when nine of ten draws are reported.
        highest_limit: Where the limit of detection is above this strength, an audit of this finding cannot pass.
        audits: Audits whose images are made with the marker; those of them that the plan runs.
        beside: The conditions of these audits, as the plan runs them; set by :meth:`among`.
    """

    strengths: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
    association: float = 0.7
    draws: int = 10
    highest_limit: float = 0.5
    audits: tuple[str, ...] = ("shortcut.masked-anatomy", "shortcut.background-swap", "shortcut.border-ablation")
    beside: tuple[Condition, ...] = field(default=(), repr=False, metadata={"option": False})

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: Strengths that do not rise from above 0, an association not in (0.5, 1), no draws.
        """
        rising = all(a < b for a, b in zip((0.0, *self.strengths), self.strengths, strict=False))
        if not self.strengths or not rising:
            raise ValueError(f"strengths must rise from above 0, got {self.strengths}")
        if not 0.5 < self.association < 1.0:
            raise ValueError(f"association must be between 0.5 (none) and 1 (always), got {self.association}")
        if self.draws < 1:
            raise ValueError(f"draws must be 1 or more, got {self.draws}")
        if not self.highest_limit > 0:
            raise ValueError(f"highest_limit must be above 0, got {self.highest_limit}")
        if self.levels:
            raise ValueError("give strengths instead of levels")

    def among(self, conditions: tuple[Condition, ...]) -> SpikeAndRecovery:
        """The condition with the audits that it implants the marker for."""
        return replace(self, beside=tuple(other for other in conditions if other.id in self.audits))

    @property
    def reads_states(self) -> tuple[str, ...]:
        """What the audits have learned."""
        return tuple(other.id for other in self.beside)

    def passes(self, findings: int) -> float:
        """One pass for the marker alone, and one for each judged level of each audit."""
        del findings
        return 1.0 + sum(len(_judged(audit).levels) for audit in self.beside)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Ask about the marked images, plain and under every audit.

        Measurements: ``marker_response`` of the unaltered image: what the detector of the implanted model sees where there is
        no marker.
        """
        assert query is not None  # a condition that asks the model is given one
        marked = replace(batch, images=_spike.implanted(batch.images), clean_margins=None, clean_features=None)
        plain_seen = _spike.response(batch.images)
        vectors = _vectors(CLEAN, "", query.margins(marked.images), plain_seen, _spike.response(marked.images))
        for audit in map(_judged, self.beside):
            learned = _of(audit.id, state)
            taught = learned and audit.implanted_state(learned, _spike.implanted)
            pairs = zip(_variants(audit, batch, query, learned), _variants(audit, marked, query, taught), strict=True)
            for without, with_marker in pairs:
                vectors += _compared(audit.id, without, with_marker, query)
        return Applied(
            variants=iter(()),
            measurements=[Measurement(quantity="marker_response", values=plain_seen.float())],
            vectors=vectors,
        )


def _judged(audit: Condition) -> Condition:
    unjudged = UNJUDGED.get(audit.id, ())
    return replace(audit, levels=tuple(level for level in audit.levels if level.name not in unjudged))


def _of(condition: str, state: State | None) -> State | None:
    """What another condition has learned, out of what was handed over."""
    prefix = f"{condition}/"
    found = {name.removeprefix(prefix): value for name, value in (state or {}).items() if name.startswith(prefix)}
    return found or None


def _variants(audit: Condition, batch: Batch, query: ModelQuery, state: State | None) -> Iterator[Variant]:
    return audit.apply(batch, query, state).variants


def _compared(condition: str, without: Variant, with_marker: Variant, query: ModelQuery) -> list[CaseVector]:
    """Vectors of one level; none where the level has no meaning for any case."""
    if without.images is None or with_marker.images is None:
        return []
    margins = query.margins(with_marker.images)
    if with_marker.applicable is not None:
        margins = margins.masked_fill(~with_marker.applicable[:, None], float("nan"))
    seen = (_spike.response(without.images), _spike.response(with_marker.images))
    return _vectors(condition, with_marker.level.name, margins, *seen)


def _vectors(condition: str, level: str, margins: Tensor, without: Tensor, with_marker: Tensor) -> list[CaseVector]:
    seen = torch.stack([without, with_marker], dim=1).float()
    return [
        CaseVector(name=vector_name(condition, level, MARGINS), values=margins),
        CaseVector(name=vector_name(condition, level, SEEN), values=seen),
    ]
