"""What intervals cost: 2,000 patient-cluster bootstrap areas, and 700 conditions with joint intervals.

The 700 conditions are judged twice: their areas alone, and as a whole check of 14 findings and 50 levels, AUROC, sensitivity
and specificity with verdicts and curves, as an audit does it. Beside it stands the same check with nothing kept, every
estimate made from the scores at both levels of confidence.

Run from a checkout, with the ``test`` extra for scikit-learn::

    python benchmarks/intervals.py

Both sides run in one process on one thread, alternating; figures are process CPU time. The scikit-learn loop gathers the
images of the drawn patients and calls ``roc_auc_score``, as one would write it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from robustbench_rad.checks import acquisition_shift
from robustbench_rad.checks.comparisons import Prepared
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.checks.rankings import Rankings
from robustbench_rad.conditions import Level
from robustbench_rad.profile import check_spec
from robustbench_rad.scores import CLEAN, Column, ScoreTable
from robustbench_rad.statistics.auc import Ranking, rank
from robustbench_rad.statistics.auc_many import auc_drops
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.resampling import bootstrap_auc

IMAGES, PATIENTS, CONDITIONS, DRAWS = 10_000, 3_700, 700, 2_000
FINDINGS, SHIFT = 14, "shift.xr.dose"
Floats = NDArray[np.float64]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What intervals cost.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loop", type=int, default=100, help="draws of the scikit-learn loop, scaled up to 2,000")
    options = parser.parse_args()
    labels, scores, patients = _sample()
    ours, loops = [], []
    for _ in range(options.repeats):
        ours.append(_seconds(lambda: bootstrap_auc(labels, scores, patients, PATIENTS, draws=DRAWS, seed=0)))
        loop = _seconds(lambda: _scikit_learn(labels, scores, patients, options.loop))
        loops.append(loop * DRAWS / options.loop)
    altered = scores[:, None] + 0.3 * np.random.default_rng(2).normal(size=(IMAGES, CONDITIONS))
    joint = [
        _seconds(lambda: auc_drops(labels, scores, altered, patients, PATIENTS, seed=0))
        for _ in range(max(options.repeats // 2, 1))
    ]
    kept, anew = [], []
    for _ in range(max(options.repeats // 2, 1)):
        kept.append(_seconds(lambda: _judge(_context(labels, scores, altered, patients))))
        with _nothing_kept():
            anew.append(_seconds(lambda: _judge(_context(labels, scores, altered, patients))))
    print(f"numpy {np.__version__}, scikit-learn {version('scikit-learn')}, SciPy {version('scipy')}; one thread\n")
    print(
        f"| {IMAGES:,} images, {PATIENTS:,} patients, {labels.mean():.0%} positive | CPU-s: min – median – max | target |"
    )
    print("|---|---|---|")
    print(f"| {DRAWS:,} patient-cluster bootstrap AUCs | {_spread(ours)} | |")
    print(f"| scikit-learn loop, {options.loop} draws scaled to {DRAWS:,} | {_spread(loops)} | |")
    print(f"| loop / ours | {_spread(np.divide(loops, ours).tolist())} | ≥ 50 |")
    print(f"| {CONDITIONS} paired AUC drops with joint max-T intervals | {_spread(joint)} | < 5 |")
    print(
        f"| the {CONDITIONS} judged: {3 * CONDITIONS:,} comparisons with verdicts and curves | {_spread(kept)} | < 5 |"
    )
    print(f"| the same, every estimate from the scores | {_spread(anew)} | |")


def _sample() -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Scores of 0.85 area whose images of one patient share half of their variance."""
    rng = np.random.default_rng(1)
    patients = np.r_[np.arange(PATIENTS), rng.integers(0, PATIENTS, IMAGES - PATIENTS)]
    labels = (rng.random(IMAGES) < 0.11).astype(float)
    noise = np.sqrt(0.5) * (rng.normal(size=PATIENTS)[patients] + rng.normal(size=IMAGES))
    return labels, noise + 1.466 * labels, patients


def _scikit_learn(labels: Floats, scores: Floats, patients: NDArray[np.int64], draws: int) -> list[float]:
    order = np.argsort(patients, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(patients))[:-1])
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(draws):
        rows = np.concatenate([members[patient] for patient in rng.integers(0, PATIENTS, PATIENTS)])
        areas.append(roc_auc_score(labels[rows], scores[rows]))
    return areas


def _context(labels: Floats, scores: Floats, altered: Floats, patients: NDArray[np.int64]) -> JudgeContext:
    """A finished pass: findings share their labels and clean scores, and every column of altered scores is its own."""
    findings = tuple(f"finding {place}" for place in range(FINDINGS))
    levels = tuple(Level(name=f"level {n}", value=float(n), unit="") for n in range(CONDITIONS // FINDINGS))
    columns = {
        Column(condition=CLEAN, level="", finding=finding): (scores + place).astype(np.float32)
        for place, finding in enumerate(findings)
    }
    for place, finding in enumerate(findings):
        for n, level in enumerate(levels):
            key = Column(condition=SHIFT, level=level.name, finding=finding)
            columns[key] = (altered[:, place * len(levels) + n] + place).astype(np.float32)
    return JudgeContext(
        scores=ScoreTable(cases=tuple(map(str, range(IMAGES))), columns=columns, quantities={}),
        findings=findings,
        labels=np.repeat(labels[:, None], FINDINGS, axis=1),
        patients=patients,
        levels={SHIFT: levels},
    )


def _judge(context: JudgeContext) -> None:
    judged = acquisition_shift.judge(context, check_spec(SHIFT, {})).judged
    assert len(judged) == 3 * FINDINGS, len(judged)


@contextmanager
def _nothing_kept() -> Iterator[None]:
    """Rank and count again for every estimate."""

    def ranked(_: Rankings, labels: Floats, scores: Floats, patients: NDArray[np.int64], n_patients: int) -> Ranking:
        return rank(labels, scores, patients, n_patients)

    def made(estimate: Prepared, confidence: float) -> Estimate:
        return estimate._prepare()(confidence)

    with patch.object(Rankings, "of", ranked), patch.object(Prepared, "__call__", made):
        yield


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _spread(values: list[float]) -> str:
    return f"{min(values):.2f} – **{np.median(values):.2f}** – {max(values):.2f}"


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
