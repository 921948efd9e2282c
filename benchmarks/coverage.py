"""Do 95 % intervals hold the truth in 95 of 100 samples, and does the gate pass a model at the margin in 5 at most?

Run from a checkout; not part of any test run::

    python benchmarks/coverage.py --samples 400 --output validity-tables.md
    python benchmarks/coverage.py --samples 2000 --verdicts

The second is what the three-valued gate says of drops of known size, and what its intervals cost beside plain ones.
Truth is known: scores are binormal, one of two labels per patient, ``images`` images of a patient whose noise has the
stated intraclass correlation. Every cell has a seed of its own, derived from ``--seed`` and its parameters, so cells can
be run alone and in any order.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.special import expit, ndtr, ndtri
from simulation import (
    IMAGES,
    NEGATIVES,
    coverage_cell,
    distance_of,
    draw_cases,
    draw_noise,
    generator_of,
    markdown_table,
)
from threadpoolctl import threadpool_limits

from robustbench_rad.criteria import judge
from robustbench_rad.result import Verdict
from robustbench_rad.statistics.agreement import cohen_kappa
from robustbench_rad.statistics.auc import auc, auc_difference
from robustbench_rad.statistics.calibration import calibration_line
from robustbench_rad.statistics.calibration_error import observed_over_expected
from robustbench_rad.statistics.estimate import Estimate, normal_quantile, student_quantile
from robustbench_rad.statistics.operating_point import predictive_value_estimates
from robustbench_rad.statistics.precision_recall import average_precision
from robustbench_rad.statistics.proportions import paired_difference, proportion
from robustbench_rad.statistics.selective import RiskCoverage, risk_coverage

AREAS = (0.7, 0.85, 0.95, 0.99)
POSITIVES = (10, 20, 50, 100, 300, 1000)
ICCS = (0.0, 0.3, 0.6)
DELTA = 0.05
DROPS, GATED = (0.0, 0.02, 0.05, 0.08, 0.12), (66, 250, 425)
# Of the simulation that the gate was planned with.
PLANNED_AREA, PLANNED_NEGATIVES = 0.88, 4


def main() -> None:
    """Print the tables, or write them to a file."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals and wrong passes of the gate.")
    parser.add_argument("--samples", type=int, default=400, help="samples per cell")
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--verdicts", action="store_true", help="only what the gate says of drops of known size")
    options = parser.parse_args()
    start = time.process_time()
    studies = (_planned_verdicts, _price) if options.verdicts else (_areas, _drops, _verdicts, _others)
    with threadpool_limits(1):
        parts = [table(options.seed, options.samples) for table in studies]
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))
    head = f"{options.samples} samples per cell, seed {options.seed}, {packages}; "
    text = f"{head}{(time.process_time() - start) / 60:.1f} minutes on one core.\n\n" + "\n\n".join(parts) + "\n"
    print(text) if options.output is None else options.output.write_text(text, "utf-8")


def _areas(seed: int, samples: int) -> str:
    """Coverage of the AUC, with the median half-width over that of a normal interval of the true standard error."""
    rows = []
    for icc, positives in itertools.product(ICCS, POSITIVES):
        row = [f"{icc:g}", str(positives)]
        for area in AREAS:
            row.append(coverage_cell(_area_samples(seed, samples, area, positives, icc), area))
        rows.append(row)
    return markdown_table("AUC", ["ICC", "positives", *(f"AUC {area:g}" for area in AREAS)], rows)


def _area_samples(seed: int, samples: int, area: float, positives: int, icc: float) -> Iterator[Estimate]:
    rng = generator_of(seed, "area", area, positives, icc)
    for _ in range(samples):
        labels, noise, patients = draw_cases(rng, positives, icc)
        yield auc(labels, noise + distance_of(area) * labels, patients, int(patients.max()) + 1)


def _drops(seed: int, samples: int) -> str:
    """Paired drops: coverage, and how often a drop of exactly the tolerance passes."""
    rows = []
    for icc, positives, area in itertools.product((0.0, 0.6), (10, 20, 66, 250), (0.85, 0.95)):
        found = list(_drop_samples(seed, samples, area, DELTA, positives, icc))
        passes = [judge(e, DELTA).verdict is Verdict.PASS for e in found]
        rows.append(
            [
                f"{icc:g}",
                str(positives),
                f"{area:g}",
                coverage_cell(iter(found), DELTA),
                f"{100 * np.mean(passes):.1f} %",
            ]
        )
    head = ["ICC", "positives", "clean AUC", "coverage (width)", "passes at the margin"]
    return markdown_table(f"Paired AUC drop of {DELTA:g}, correlation of the scores 0.8", head, rows)


def _verdicts(seed: int, samples: int) -> str:
    """What the gate says of paired drops of known size."""
    rows = []
    for positives in GATED:
        samples_of = (_drop_samples(seed, samples // 2, 0.85, drop, positives, 0.0) for drop in DROPS)
        rows.append([str(positives), *(_shares(list(found)) for found in samples_of)])
    head = ["positives", *(f"true drop {drop:g}" for drop in DROPS)]
    return markdown_table(
        f"Pass / inconclusive / fail, in percent, at a tolerance of {DELTA:g}; clean AUC 0.85", head, rows
    )


def _planned_verdicts(seed: int, samples: int) -> str:
    """The same in the setting that the gate was planned with, beside what plainer intervals say of the same samples."""
    rows = []
    for positives in GATED:
        found = [list(_planned_samples(seed, samples, PLANNED_AREA, drop, positives)) for drop in DROPS]
        rows += [[str(positives), name, *(_shares(made(cell)) for cell in found)] for name, made in _INTERVALS.items()]
    head = ["positives", "interval", *(f"true drop {drop:g}" for drop in DROPS)]
    place = f"clean AUC {PLANNED_AREA:g}, {PLANNED_NEGATIVES} negatives per positive"
    return markdown_table(f"Pass / inconclusive / fail, in percent, at a tolerance of {DELTA:g}; {place}", head, rows)


def _price(seed: int, samples: int) -> str:
    """How often a condition that does no harm passes: by positives, for the gate and for plainer intervals."""
    sizes = (50, 66, 80, 100, 130)
    rows = []
    for area in (0.85, PLANNED_AREA):
        found = [list(_planned_samples(seed, samples, area, 0.0, positives)) for positives in sizes]
        rows += [[f"{area:g}", name, *(_passes(made(cell)) for cell in found)] for name, made in _INTERVALS.items()]
    head = ["clean AUC", "interval", *(f"{positives} positives" for positives in sizes)]
    place = f"{PLANNED_NEGATIVES} negatives per positive"
    return markdown_table(f"Passes without any true drop, in percent, at a tolerance of {DELTA:g}; {place}", head, rows)


def _planned_samples(seed: int, samples: int, area: float, drop: float, positives: int) -> Iterator[Estimate]:
    rng = generator_of(seed, "planned", area, drop, positives)
    return _pairs(rng, samples, area, drop, positives, 0.0, PLANNED_NEGATIVES)


def _symmetric(found: Sequence[Estimate], reach: Callable[[Estimate], float]) -> list[Estimate]:
    """The same estimates with the interval ``value ± reach * SE``."""
    ends = [(e.value, reach(e) * e.standard_error) for e in found]
    return [replace(e, lower=at - half, upper=at + half) for e, (at, half) in zip(found, ends, strict=True)]


def _student(estimate: Estimate) -> float:
    """Quantile for the positives of the sample, one of ``1 + PLANNED_NEGATIVES`` cases."""
    cases = 0 if estimate.influence is None else len(estimate.influence)
    return student_quantile(0.95, cases / (1 + PLANNED_NEGATIVES) - 1)


_INTERVALS: dict[str, Callable[[Sequence[Estimate]], Sequence[Estimate]]] = {
    "the gate": lambda found: found,
    "DeLong, value ± t SE": lambda found: _symmetric(found, _student),
    "DeLong, value ± 1.96 SE": lambda found: _symmetric(found, lambda _: normal_quantile(0.95)),
}


def _shares(found: Sequence[Estimate]) -> str:
    said = [judge(e, DELTA).verdict for e in found]
    shares = [said.count(v) / len(said) for v in (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)]
    return " / ".join(f"{100 * share:.0f}" for share in shares)


def _passes(found: Sequence[Estimate]) -> str:
    return f"{100 * np.mean([judge(e, DELTA).verdict is Verdict.PASS for e in found]):.0f}"


def _drop_samples(seed: int, samples: int, area: float, drop: float, positives: int, icc: float) -> Iterator[Estimate]:
    return _pairs(generator_of(seed, "drop", area, drop, positives, icc), samples, area, drop, positives, icc)


def _pairs(
    rng: np.random.Generator,
    samples: int,
    area: float,
    drop: float,
    positives: int,
    icc: float,
    negatives: int = NEGATIVES,
) -> Iterator[Estimate]:
    """Paired drops of an AUC; the scores of a case are correlated 0.8."""
    for _ in range(samples):
        labels, noise, patients = draw_cases(rng, positives, icc, negatives=negatives)
        other = 0.8 * noise + 0.6 * draw_noise(rng, patients, icc)
        clean, altered = noise + distance_of(area) * labels, other + distance_of(area - drop) * labels
        yield auc_difference(labels, clean, altered, patients, int(patients.max()) + 1)


def _others(seed: int, samples: int) -> str:
    """Every other interval, at 66 positives (or cases, patients) and for 3 images per patient."""
    rows = []
    for name, (truth, make) in _estimators().items():
        row = [name]
        for images, icc in ((1, 0.0), (IMAGES, 0.6)):
            rng = generator_of(seed, name, images)
            row.append(coverage_cell((make(rng, images, icc) for _ in range(samples)), truth))
        rows.append(row)
    return markdown_table("Other intervals", ["quantity", "one image per patient", f"{IMAGES} images, ICC 0.6"], rows)


def _estimators() -> dict[str, tuple[float, Callable[[np.random.Generator, int, float], Estimate]]]:
    """Name → truth, and an estimate of one sample."""
    ppv = 0.85 * 0.03 / (0.85 * 0.03 + 0.1 * 0.97)
    agree, share = 0.85**2 + 0.15**2, 0.3 * 0.85 + 0.7 * 0.15
    chance = share**2 + (1 - share) ** 2
    return {
        "sensitivity 0.85, 66 positives": (0.85, lambda g, m, c: _rates(g, 66, m, c)[0]),
        "sensitivity 0.97, 66 positives": (0.97, lambda g, m, c: _rates(g, 66, m, c, 0.97)[0]),
        "sensitivity drop 0.10, 66 positives": (0.10, _sensitivity_drop),
        "PPV at prevalence 0.03, 66 positives": (
            ppv,
            lambda g, m, c: predictive_value_estimates(*_rates(g, 66, m, c), 0.03)[0],
        ),
        "average precision, 66 of 396": (_TRUE_AP, lambda g, m, c: _precision(g, 66, m, c)),
        "average precision, 20 of 120": (_TRUE_AP, lambda g, m, c: _precision(g, 20, m, c)),
        "calibration slope, 400 cases": (1.0, lambda g, m, c: _calibration(g, 400, m)[0]),
        "observed / expected, 400 cases": (1.0, lambda g, m, c: _calibration(g, 400, m)[1]),
        "Cohen's kappa, 60 patients": ((agree - chance) / (1 - chance), lambda g, m, c: _kappa(g, m)),
        "area under risk-coverage, 300 patients": (_TRUE_AURC[0], lambda g, m, c: _referral(g, 300, m).area),
        "its excess, 300 patients": (_TRUE_AURC[1], lambda g, m, c: _referral(g, 300, m).excess),
    }


def _rates(
    rng: np.random.Generator, positives: int, images: int, icc: float, sensitivity: float = 0.85
) -> tuple[Estimate, Estimate]:
    """Sensitivity as said and specificity 0.9; the noise of a patient's images is correlated."""
    labels, noise, patients = draw_cases(rng, positives, icc, images)
    called = np.where(labels == 1, noise < ndtri(sensitivity), noise > ndtri(0.9))
    right, count = called == (labels == 1), int(patients.max()) + 1
    return tuple(proportion(right, labels == label, patients, count) for label in (1, 0))  # type: ignore[return-value]


def _sensitivity_drop(rng: np.random.Generator, images: int, icc: float) -> Estimate:
    labels, noise, patients = draw_cases(rng, 66, icc, images)
    other = 0.8 * noise + 0.6 * draw_noise(rng, patients, icc)
    pair = noise < ndtri(0.85), other < ndtri(0.75)
    return paired_difference(*pair, labels == 1, patients, int(patients.max()) + 1)


def _precision(rng: np.random.Generator, positives: int, images: int, icc: float) -> Estimate:
    labels, noise, patients = draw_cases(rng, positives, icc, images)
    scores, count = noise + distance_of(0.85) * labels, int(patients.max()) + 1
    return average_precision(labels, scores, patients, count, seed=int(rng.integers(2**31)), draws=200).estimate


def _calibration(rng: np.random.Generator, cases: int, images: int) -> tuple[Estimate, Estimate]:
    """A calibrated model; a patient's images are the same."""
    logits = rng.normal(size=cases) - 1.5
    labels = (rng.random(cases) < expit(logits)).astype(float)
    data = np.repeat(labels, images), np.repeat(logits, images), np.repeat(np.arange(cases), images)
    slope = calibration_line(data[0], data[1], data[2], cases)[1]
    return slope, observed_over_expected(data[0], expit(data[1]), data[2], cases)


def _kappa(rng: np.random.Generator, images: int) -> Estimate:
    truth = np.repeat(rng.random(60) < 0.3, images)
    first, second = (truth ^ np.repeat(rng.random(60) < 0.15, images) for _ in range(2))
    return cohen_kappa(first, second, np.repeat(np.arange(60), images), 60)


def _referral(rng: np.random.Generator, patients: int, images: int) -> RiskCoverage:
    sure = np.abs(rng.normal(size=patients) * 2)
    wrong = (rng.random(patients) < 0.4 * np.exp(-sure)).astype(float)
    rows = np.repeat(np.arange(patients), images)
    return risk_coverage(wrong[rows], sure[rows], rows, patients)


def _large_precision() -> float:
    """Average precision of the whole population at a prevalence of 1/6, by quadrature."""
    at = np.linspace(-8, 10, 200_001)
    distance = distance_of(0.85)
    found, called = 1 - ndtr(at - distance), 5 * (1 - ndtr(at))
    density = np.exp(-((at - distance) ** 2) / 2) / np.sqrt(2 * np.pi)
    precision = found / np.maximum(found + called, 1e-300)
    return float(np.trapezoid(precision * density, at))


def _large_area() -> tuple[float, float]:
    """Area under risk-coverage of the whole population, the mean risk at the place of a random case; and its excess."""
    sure = np.linspace(1e-9, 16, 400_001)
    density = np.exp(-((sure / 2) ** 2) / 2) / np.sqrt(2 * np.pi)
    step = sure[1] - sure[0]
    kept = np.cumsum(density[::-1])[::-1] * step
    wrong = np.cumsum((0.4 * np.exp(-sure) * density)[::-1])[::-1] * step
    area = float((wrong / np.maximum(kept, 1e-300) * density).sum() / density.sum())
    rate = float(wrong[0] / kept[0])
    return area, area - rate - (1 - rate) * float(np.log(1 - rate))


_TRUE_AP, _TRUE_AURC = _large_precision(), _large_area()

if __name__ == "__main__":
    main()
