"""Attacks that search a few parameters of a transform instead of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._mask import MaskPolicy
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import Anything, Threat
from robustbench_rad.conditions import Applied, Batch, Level, ModelQuery, State, Variant, fraction

OF_ENVELOPE = "of the envelope"
NO_SPACING = "pixel spacing is not known: millimetres are taken as pixels"


def shares(*values: float | str) -> tuple[Level, ...]:
    """Levels that are shares of an envelope.

    >>> [str(level) for level in shares("1/2", 1)]
    ['1/2 of the envelope', '1 of the envelope']
    """
    return tuple(Level(name=str(value), value=fraction(value), unit=OF_ENVELOPE) for value in values)


@dataclass(frozen=True, kw_only=True)
class TransformAttack(Attack):
    """Base of attacks whose transform touches the whole image, so that a mask has no meaning."""

    threat: ClassVar[type[Threat]] = Anything

    def __post_init__(self) -> None:
        """Refuse a mask."""
        super().__post_init__()
        if self.mask is not MaskPolicy.IMAGE:
            raise ValueError(f"mask: the whole image is transformed; expected 'image', got {str(self.mask)!r}")

    def check_numbers(self, **bounds: tuple[float, float]) -> None:
        """Refuse options that are not numbers within bounds, both included.

        Raises:
            ValueError: Names the option.
        """
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {value!r}")

    def check_counts(self, **least: int) -> None:
        """Refuse options that are not whole numbers of at least so many.

        Raises:
            ValueError: Names the option.
        """
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"{name}: expected a whole number of at least {low}, got {value!r}")

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """The level's value for every case, ``(N,)``."""
        return torch.full((len(batch),), level.value, device=batch.device)

    def caveat(self, batch: Batch) -> str:
        """What a reader must know of these cases; "" for nothing."""
        del batch
        return ""

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Attack every labelled case and finding at every level; see :meth:`Attack.apply`."""
        applied = super().apply(batch, query, state)
        return replace(applied, variants=_said(applied.variants, self.caveat(batch)))


@dataclass(frozen=True, kw_only=True)
class EnvelopeAttack(TransformAttack):
    """Base of attacks whose levels scale an envelope of parameters.

    Attributes:
        levels: Shares of the envelope, in (0, 1].
    """

    levels: tuple[Level, ...] = shares("1/4", "1/2", 1)

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a share such as ``"1/4"``."""
        return shares(value)[0]

    def check_ladder(self) -> None:
        """Refuse shares that are not above 0 and up to 1, from small to large.

        Raises:
            ValueError: Says what was expected.
        """
        values = [level.value for level in self.levels]
        if not all(0 < value <= 1 for value in values):
            raise ValueError(f"levels: expected shares of the envelope above 0 and up to 1, got {values}")
        super().check_ladder()


def _said(variants: Iterator[Variant], caveat: str) -> Iterator[Variant]:
    for variant in variants:
        yield replace(variant, reason=variant.reason or caveat)


def pixel_mm(batch: Batch) -> tuple[Tensor, Tensor]:
    """Spacing ``(N, d)`` of the pixels, 1 where it is not known, and whether it is ``(N,)``."""
    axes = batch.images.ndim - 2
    given = torch.full((len(batch), axes), torch.nan) if batch.spacing_mm is None else batch.spacing_mm
    given = given.to(batch.device)
    known = ((given > 0) & given.isfinite()).all(1)
    return torch.where(known[:, None], given, 1.0), known


def keep_notes(front: Front, health_before: Tensor, notes: Mapping[str, Tensor]) -> None:
    """Keep measurements ``(L,)`` of the planes just scored where they are the best so far.

    Args:
        front: The targets.
        health_before: ``(L,)`` of the best planes before these were scored.
        notes: Measurements by name.
    """
    better = front.live.health < health_before
    for name, values in notes.items():
        front.live.notes[name] = torch.where(better, values.to(better.device), front.live.notes[name])
