"""How many cases decide, from an estimate in hand; and what images of one patient are worth."""

from __future__ import annotations

import math

from robustbench_rad.statistics.estimate import Estimate

UNREACHABLE = 1_000_000
"""An answer beyond this many positives is none."""


def needed_positives(harm: Estimate, tolerance: float, positives: int) -> int | None:
    """Positives at which the interval would leave the tolerance, were the estimate to stay.

    The half-width towards the tolerance shrinks like ``1 / sqrt(n₊)``: ``n₊ (half-width / distance)²``, rounded up.

    Args:
        harm: Estimate whose interval holds the tolerance.
        tolerance: δ.
        positives: n₊ the estimate rests on.

    Returns:
        The number, or None when the estimate sits at the tolerance, has no finite interval, or would need more than a
        million.

    >>> needed_positives(Estimate(value=0.02, lower=-0.02, upper=0.08), 0.05, 100)
    400
    """
    distance = abs(tolerance - harm.value)
    half = harm.upper - harm.value if harm.value < tolerance else harm.value - harm.lower
    if positives < 1 or not (math.isfinite(distance) and math.isfinite(half)) or distance <= 0:
        return None
    needed = positives * (half / distance) ** 2
    return math.ceil(needed - 1e-6) if needed <= UNREACHABLE else None


def design_effect(images_per_patient: float, intraclass_correlation: float) -> float:
    """How many times more images are needed when patients give several: ``1 + (m - 1) ICC``.

    >>> design_effect(4, 0.5)
    2.5
    """
    return 1 + (images_per_patient - 1) * intraclass_correlation
