"""Do the intervals of what is shown and not judged hold the truth: costs, parts of the Brier score, gaps, dependence?

Run from a checkout; not part of any test run::

    python benchmarks/coverage_shown.py --samples 500

Truth is known by quadrature. Several images of a patient have correlated scores and, for calibration, correlated outcomes.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import numpy as np
from scipy.special import expit, ndtr, ndtri
from simulation import (
    IMAGES,
    Floats,
    Indices,
    coverage_cell,
    distance_of,
    draw_cases,
    draw_noise,
    generator_of,
    markdown_table,
)
from threadpoolctl import threadpool_limits

from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.brier_decomposition import brier_estimates
from robustbench_rad.statistics.cost_band import cost_band
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.gaps import rate_gap, worst_versus_rest
from robustbench_rad.statistics.least_cost import least_cost
from robustbench_rad.statistics.means import spread_ratio
from robustbench_rad.statistics.operating_point import Costs, expected_cost
from robustbench_rad.statistics.proportions import proportion

COSTS, PREVALENCE, AREA = Costs(miss=20, false_alarm=1), 0.03, 0.85
LOCKED = distance_of(AREA) + float(ndtri(0.15))  # sensitivity 0.85
BAND = LOCKED + np.array([-1.5, -0.75, 0.0, 0.75, 1.5])
PARTS = ("score", "miscalibration", "discrimination", "uncertainty")
SLOPES = {"calibrated": (1.0, 0.0), "overconfident": (2.0, 0.5)}
SIZES = (100, 400)
Quantities = Mapping[str, tuple[float, Estimate]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals that are shown and not judged.")
    parser.add_argument("--samples", type=int, default=500, help="samples per cell")
    parser.add_argument("--seed", type=int, default=20260101)
    options = parser.parse_args()
    start = time.process_time()
    with threadpool_limits(1):
        text = _study(options.seed, options.samples)
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))
    minutes = (time.process_time() - start) / 60
    print(f"{options.samples} samples per cell, seed {options.seed}, {packages}; {minutes:.1f} minutes on one core.\n")
    print(text)


def _study(seed: int, samples: int) -> str:
    found: dict[str, list[str]] = {}
    for (name, draw), (images, icc) in itertools.product(_draws().items(), ((1, 0.0), (IMAGES, 0.6))):
        rng = generator_of(seed, name, images)
        drawn = [draw(rng, images, icc) for _ in range(samples)]
        for quantity, (truth, _) in drawn[0].items():
            cell = coverage_cell((sample[quantity][1] for sample in drawn), truth)
            found.setdefault(f"{quantity}, {name}", []).append(cell.split()[0] if "together" in quantity else cell)
    head = ["quantity", "one image per patient", f"{IMAGES} images, ICC 0.6"]
    return markdown_table(
        "Intervals that are shown and not judged", head, [[name, *row] for name, row in found.items()]
    )


def _draws() -> dict[str, Callable[[np.random.Generator, int, float], Quantities]]:
    brier = {
        f"{name}, {cases} cases": partial(_brier, cases, line)
        for (name, line), cases in itertools.product(SLOPES.items(), SIZES)
    }
    costs = {f"{positives} of {6 * positives} positive": partial(_costs, positives) for positives in (20, 66)}
    return {**brier, **costs, "600 cases": _gaps, "200 cases": _dependence}


def _brier(cases: int, line: tuple[float, float], rng: np.random.Generator, images: int, icc: float) -> Quantities:
    """A model that says ``expit(slope z + intercept)`` where the chance is ``expit(z)``."""
    patients = np.repeat(np.arange(max(cases // images, 2)), images)
    logits = draw_noise(rng, patients, icc) - 1.5
    labels = (ndtr(draw_noise(rng, patients, icc)) < expit(logits)).astype(float)
    said = expit(line[0] * logits + line[1])
    parts = brier_estimates(labels, said, patients, int(patients.max()) + 1, seed=int(rng.integers(2**31)))
    names = {part: "Brier score" if part == "score" else part for part in PARTS}
    truth = _BRIER[line]
    return {name: (truth[part], getattr(parts, part)) for part, name in names.items()}


def _true_brier(line: tuple[float, float]) -> dict[str, float]:
    z = np.linspace(-9.5, 6.5, 200_001)
    weight = np.exp(-((z + 1.5) ** 2) / 2)
    weight /= weight.sum()
    chance, said = expit(z), expit(line[0] * z + line[1])
    share = float(weight @ chance)
    parts = {
        "miscalibration": float(weight @ (said - chance) ** 2),
        "discrimination": float(weight @ (chance - share) ** 2),
        "uncertainty": share * (1 - share),
    }
    return {"score": parts["miscalibration"] - parts["discrimination"] + parts["uncertainty"], **parts}


def _costs(positives: int, rng: np.random.Generator, images: int, icc: float) -> Quantities:
    """Cost at the locked threshold, at the cheapest one, and the whole curve at five thresholds together."""
    labels, noise, patients = draw_cases(rng, positives, icc, images)
    margins, count = noise + distance_of(AREA) * labels, int(patients.max()) + 1
    called = margins >= LOCKED
    rates = (
        proportion(called, labels == 1, patients, count),
        proportion(~called, labels == 0, patients, count),
    )
    given = {"prevalence": PREVALENCE, "costs": COSTS, "seed": int(rng.integers(2**31))}
    band = cost_band(labels, margins, patients, count, thresholds=BAND, **given)  # type: ignore[arg-type]
    cheapest = least_cost(labels, margins, patients, count, **given)[1]  # type: ignore[arg-type]
    return {
        "cost at the locked threshold": (_true_cost(LOCKED), expected_cost(*rates, PREVALENCE, COSTS)),
        "cost at the cheapest threshold": (_LEAST_COST, cheapest),
        "cost curve, five thresholds together": (0.0, _worst(band, [_true_cost(at) for at in BAND])),
    }


def _worst(band: list[Estimate], truth: list[float]) -> Estimate:
    """The estimate whose truth lies furthest towards or beyond its limit, about that truth."""
    about = [
        replace(e, value=e.value - t, lower=e.lower - t, upper=e.upper - t) for e, t in zip(band, truth, strict=True)
    ]
    return max(
        about, key=lambda e: max(e.lower / max(e.value - e.lower, 1e-12), -e.upper / max(e.upper - e.value, 1e-12))
    )


def _true_cost(threshold: float) -> float:
    missed, alarmed = ndtr(threshold - distance_of(AREA)), ndtr(-threshold)
    return float(PREVALENCE * COSTS.miss * missed + (1 - PREVALENCE) * COSTS.false_alarm * alarmed)


def _gaps(rng: np.random.Generator, images: int, icc: float) -> Quantities:
    """Three sites of equal size; sensitivity 0.85, 0.85 and 0.70, specificity 0.9 everywhere."""
    patients = np.repeat(np.arange(600 // images), images)
    site = np.array(["A", "B", "C"])[patients % 3]
    labels = (patients // 3 % 2).astype(float)
    right = draw_noise(rng, patients, icc) < ndtri(np.where(labels == 0, 0.9, np.where(site == "C", 0.7, 0.85)))
    count, seed = int(patients.max()) + 1, int(rng.integers(2**31))

    def sensitivity(mask: np.ndarray, at: float) -> Estimate:
        return proportion(right, mask & (labels == 1), patients, count, confidence=at)

    rest = worst_versus_rest(site.tolist(), sensitivity, quantity="sensitivity", seed=seed)
    odds = rate_gap(labels, right == (labels == 1), site.tolist(), patients, count, seed=seed)
    return {"worst site against the rest": (0.15, rest.estimate), "equalised-odds gap": (0.15, odds.estimate)}


def _dependence(rng: np.random.Generator, images: int, icc: float) -> Quantities:
    """A score that tells one of two scanners by 0.5 SD within a label; a score that retains a tenth of its spread."""
    patients: Indices = np.repeat(np.arange(200 // images), images)
    scanner, labels = (patients % 2).astype(float), (patients // 2 % 3 == 0).astype(float)
    count = int(patients.max()) + 1
    clean = draw_noise(rng, patients, icc)
    scores = clean + 1.5 * labels + 0.5 * scanner
    masked: Floats = 0.1 * draw_noise(rng, patients, icc)
    telling = conditional_auc(labels, scores, scanner, patients, count)
    return {
        "AUROC for the scanner within a label": (float(ndtr(0.5 / np.sqrt(2))), telling),
        "retained spread": (0.1, spread_ratio(masked, clean, patients, count)),
    }


_BRIER = {line: _true_brier(line) for line in SLOPES.values()}
_LEAST_COST = min(_true_cost(at) for at in np.linspace(-6, 8, 140_001))

if __name__ == "__main__":
    main()
