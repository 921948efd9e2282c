"""How much of a model's AUC above chance is left on altered images."""

from __future__ import annotations

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import Ranking, interval
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.ratios import ratio


def retained_share(clean: Ranking, altered: Ranking, *, confidence: float) -> Estimate:
    """``(AUC(altered) - 0.5) / (AUC(clean) - 0.5)`` with Fieller's interval, paired by patient.

    Args:
        clean: Ranking of the clean scores.
        altered: Ranking of the scores of altered images, same cases.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: The clean score is not told from chance, so that there is nothing to keep a share of.

    >>> from robustbench_rad.statistics.auc import rank
    >>> rng = __import__("numpy").random.default_rng(0)
    >>> label = (rng.random(4000) < 0.5).astype(float)
    >>> score = label + rng.normal(size=4000)
    >>> less = label * (rng.random(4000) < 0.5) + rng.normal(size=4000)
    >>> full, half = (rank(label, scores, range(4000), 4000) for scores in (score, less))
    >>> found = retained_share(full, half, confidence=0.95)
    >>> 0.4 < found.lower < found.value < found.upper < 0.65
    True
    """
    first, second = (interval(ranking, confidence=confidence).affine(offset=-0.5) for ranking in (clean, altered))
    degrees = min(clean.patients, altered.patients) - 1
    if first.lower <= 0:
        raise StatisticsError("the model shows no signal on clean images, so there is nothing to keep a share of")
    return ratio(second, first, degrees=degrees)
