"""What a condition gives back: variants, one after the other, and what it measured on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from robustbench_rad.conditions.variant import Variant

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Numbers about cases that are not margins: achieved noise, sampled parameters, saliency similarity.

    Attributes:
        quantity: Name with its unit, e.g. ``noise_sd_hu``.
        values: ``(N,)`` float; NaN where not measured.
        level: Name of the level it belongs to, "" for none.
        finding: Finding it belongs to, "" for none.
    """

    quantity: str
    values: Tensor
    level: str = ""
    finding: str = ""


@dataclass(frozen=True, kw_only=True)
class CaseVector:
    """Several numbers of each case that belong together: penultimate features, a thumbnail.

    Attributes:
        name: What they are.
        values: ``(N, F)`` float, F the same for every case of an audit; NaN where not measured.
    """

    name: str
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a condition gives back: variants one after the other, so that only one is in memory, and measurements.

    ``measurements`` and ``vectors`` are complete only when ``variants`` has been consumed.
    """

    variants: Iterator[Variant]
    measurements: list[Measurement] = field(default_factory=list)
    vectors: list[CaseVector] = field(default_factory=list)
