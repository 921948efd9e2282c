"""What is written under a picture: the scores of its case before and after; and which case moves most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from robustbench_rad.result import PanelLine
from robustbench_rad.scores import ScoreTable

FEW_FINDINGS = 4  # so many are all written under a picture; of more, the one whose score moves most
LEAST_MOVE = 1e-3  # log-odds; less is rounding


@dataclass(frozen=True, kw_only=True)
class Move:
    """The largest change of the score of one case under a condition.

    Attributes:
        row: Of the case in the score table.
        level: Name of the level that makes it.
        finding: The finding.
        change: Of the margin, in log-odds.
    """

    row: int
    level: str
    finding: str
    change: float


@dataclass(frozen=True, kw_only=True)
class CaseScores:
    """Scores of an audit as they are written under pictures.

    Attributes:
        scores: The margins of the pass.
        thresholds: Locked operating point of each finding as a probability; NaN where the largest class decides, so that
            the margin is no log-odds of a probability.
    """

    scores: ScoreTable
    thresholds: Mapping[str, float]

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """Names, in the order of the model."""
        return tuple(self.thresholds)

    def moves(self, condition: str, levels: Sequence[str]) -> list[Move]:
        """Every case that a condition moves at these levels, the farthest moved first."""
        pairs = [(level, finding) for level in levels for finding in self.findings]
        if not pairs:
            return []
        changes = np.stack([self._change(condition, level, finding) for level, finding in pairs], axis=1)
        size = np.where(np.isfinite(changes), np.abs(changes), 0.0)
        largest = size.argmax(1)
        order = np.argsort(-size.max(1), kind="stable")
        moved = [int(row) for row in order if size[row, largest[row]] > LEAST_MOVE]
        return [self._move(row, pairs[largest[row]], float(changes[row, largest[row]])) for row in moved]

    def _move(self, row: int, pair: tuple[str, str], change: float) -> Move:
        return Move(row=row, level=pair[0], finding=pair[1], change=change)

    def _change(self, condition: str, level: str, finding: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        with np.errstate(invalid="ignore"):
            return np.subtract(self.scores.margins(condition, level, finding), self.scores.clean(finding))

    def written(self, condition: str, levels: Sequence[str], row: int) -> tuple[str, ...]:
        """Findings that are written under the pictures of a case: all where they are few, first the one that moves most."""
        moved = {finding: 0.0 for finding in self.findings}
        for level in levels:
            for finding in self.findings:
                change = abs(float(self._change(condition, level, finding)[row]))
                moved[finding] = max(moved[finding], change if math.isfinite(change) else 0.0)
        ranked = sorted(self.findings, key=lambda finding: -moved[finding])
        return tuple(ranked if len(ranked) <= FEW_FINDINGS else ranked[:1])

    def before(self, finding: str, row: int) -> PanelLine:
        """The score of the unaltered image, and the call."""
        margin = float(self.scores.clean(finding)[row])
        called = "" if math.isnan(margin) else f", {'called' if margin >= 0 else 'not called'}"
        return PanelLine(name=finding, text=f"{self.shown(finding, margin)}{called}")

    def after(self, condition: str, level: str, finding: str, row: int) -> PanelLine:
        """The score before and after, and whether the call flips."""
        margins = [float(self.scores.clean(finding)[row]), float(self.scores.margins(condition, level, finding)[row])]
        before, after = (self.shown(finding, margin) for margin in margins)
        flips = math.isfinite(margins[1]) and (margins[0] >= 0) != (margins[1] >= 0)
        return PanelLine(name=finding, text=f"{before} → {after}", flips=flips)

    def shown(self, finding: str, margin: float) -> str:
        """A margin as the probability that it stands for; as a signed margin where the largest class decides."""
        if not math.isfinite(margin):
            return "not scored" if math.isnan(margin) else "no number"
        threshold = self.thresholds[finding]
        if math.isnan(threshold):
            return f"margin {margin:+.2f}".replace("-", "−")
        return probability(margin, threshold)


def probability(margin: float, threshold: float) -> str:
    """Probability of a margin, log-odds above those of a threshold, to three decimals.

    >>> probability(0.0, 0.3), probability(20.0, 0.5), probability(-20.0, 0.5)
    ('0.300', '>0.999', '<0.001')
    """
    log_odds = margin + math.log(threshold) - math.log1p(-threshold)
    value = 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, log_odds))))
    if value > 0.9995:
        return ">0.999"
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"
