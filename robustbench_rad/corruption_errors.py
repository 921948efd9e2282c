"""The figures of MedMNIST-C: balanced error by corruption and severity, and BE and rBE against the published AlexNet.

``BE = mean over severities of the error / that of AlexNet``; ``rBE = (mean error - clean error) / the same of AlexNet``. Each
has an interval by resampling the images, all severities of an image together. AlexNet's own errors are taken as given. MedMNIST
names no patients, so images count as independent and the intervals are too narrow where a patient has several.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from robustbench_rad.classifier import Head
from robustbench_rad.data.medmnist_c import SEVERITIES, Codes, Grey, TestSet
from robustbench_rad.data.medmnist_c_baselines import ALEXNET, CLEAN
from robustbench_rad.errors import DataError, StatisticsError
from robustbench_rad.statistics.auc import auc
from robustbench_rad.statistics.estimate import normal_quantile

if TYPE_CHECKING:
    from robustbench_rad.classifier import Classifier

Doubles = npt.NDArray[np.float64]

DRAWS = 1000
AT_ONCE = 50
UNSTABLE = 0.02  # a denominator of rBE below it makes any figure large


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number with its 95 % interval; NaN where it is not defined."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One corruption at one severity (0: the clean images)."""

    corruption: str
    severity: int
    balanced_accuracy: Figure
    auroc: Figure


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One corruption over its severities, or all of them (``mean``)."""

    corruption: str
    be: Figure
    rbe: Figure
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What the model said of one set of images.

    Attributes:
        truth: ``(N, P)`` class codes of P problems: one per finding, or one of many classes.
        called: ``(N, P)`` class codes.
        positive: ``(N, K)`` 0 and 1 per finding, for the AUROC.
        scores: ``(N, K)``.
    """

    truth: Codes
    called: Codes
    positive: Codes
    scores: Doubles


def ask(classifier: Classifier, images: Grey, labels: Codes, *, batch_size: int = 64) -> Answers:
    """Show the model 8-bit pictures ``(N, H, W)``: 0 is its black, 255 its white.

    Calls are those of its thresholds. A softmax model over one column of class codes calls its largest class.

    Raises:
        DataError: The labels do not fit the model's head.
    """
    low, high = classifier.input.limits
    many = _many_classes(classifier, labels)
    margins, outputs = [], []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            part = torch.from_numpy(images[start : start + batch_size].astype(np.float32) / 255.0)[:, None]
            shown = classifier.display((low + part * (high - low)).to(classifier.device))
            raw = classifier.outputs(shown)
            outputs.append(raw.double().cpu().numpy())
            margins.append(classifier.head.margins(raw).double().cpu().numpy())
    if many:
        scores = np.concatenate(outputs)
        classes = np.arange(scores.shape[1])
        return Answers(
            truth=labels, called=scores.argmax(1)[:, None], positive=(labels == classes).astype(np.int64), scores=scores
        )
    scores = np.concatenate(margins)
    return Answers(truth=labels, called=(scores >= 0).astype(np.int64), positive=labels, scores=scores)


def _many_classes(classifier: Classifier, labels: Codes) -> bool:
    """Whether the labels are codes of the classes of a softmax head."""
    findings, width = len(classifier.findings), classifier.head.width
    if labels.shape[1] == findings and labels.min() >= 0 and labels.max() <= 1:
        return False
    if classifier.head.kind is Head.SOFTMAX and labels.shape[1] == 1 and labels.min() >= 0 and labels.max() < width:
        return True
    raise DataError(
        f"labels: expected {findings} columns of 0 and 1 (or class codes below {width} for a softmax head), got "
        f"{labels.shape[1]} columns from {labels.min()} to {labels.max()}",
        hint="Name one finding per column of the set's labels in [model] findings.",
    )


def rows_of(name: str, answers: Sequence[Answers], *, first: int, draws: Doubles) -> Iterator[Row]:
    """Balanced accuracy and AUROC at each severity."""
    for number, answer in enumerate(answers):
        errors = balanced_errors([answer], draws)[:, 0]
        accuracy = _figure(1.0 - balanced_errors([answer], np.ones((1, len(answer.truth))))[0, 0], 1.0 - errors)
        if accuracy.lower == accuracy.upper:  # no error (or no hit) in any class: resampling shows no spread
            accuracy = _exact(accuracy, answer)
        yield Row(corruption=name, severity=first + number, balanced_accuracy=accuracy, auroc=_auroc(answer))


def summaries(set_name: str, clean: Answers, corrupted: dict[str, Sequence[Answers]], draws: Doubles) -> list[Summary]:
    """BE and rBE of every corruption with a published baseline, and their means.

    Raises:
        DataError: No baseline for this set.
    """
    if set_name not in ALEXNET:
        raise DataError(
            f"{set_name}: no published baseline; known: {', '.join(ALEXNET)}", hint="Name the set: --set NAME."
        )
    alexnet = ALEXNET[set_name]
    everything = np.vstack([np.ones(draws.shape[1]), draws])  # the first row is the sample itself
    clean_error = balanced_errors([clean], everything)[:, 0]
    found, be, rbe = [], [], []
    for name, answers in corrupted.items():
        if name not in alexnet:
            nothing = Figure(value=math.nan, lower=math.nan, upper=math.nan)
            found.append(Summary(corruption=name, be=nothing, rbe=nothing, note="no published baseline"))
            continue
        error = balanced_errors(answers, everything).mean(1)
        rise = alexnet[name] - alexnet[CLEAN]
        be.append(error / alexnet[name])
        rbe.append((error - clean_error) / rise)
        note = f"AlexNet loses {rise:+.3f} here: rBE divides by next to nothing" if abs(rise) < UNSTABLE else ""
        found.append(Summary(corruption=name, be=_drawn(be[-1]), rbe=_drawn(rbe[-1]), note=note))
    if be:
        left_out = [name for name in alexnet if name != CLEAN and name not in corrupted]
        note = f"published means are over all; left out: {', '.join(left_out)}" if left_out else ""
        mean = np.mean(be, axis=0), np.mean(rbe, axis=0)
        found.append(Summary(corruption="mean", be=_drawn(mean[0]), rbe=_drawn(mean[1]), note=note))
    return found


def bootstrap_counts(cases: int, *, seed: int = 0, draws: int = DRAWS) -> Doubles:
    """How often each case is drawn, ``(draws, cases)``; the same for every corruption, so that they are paired."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(cases, np.full(cases, 1.0 / cases), size=draws).astype(np.float64)


def balanced_errors(answers: Sequence[Answers], counts: Doubles) -> Doubles:
    """One minus the balanced accuracy ``(draws, len(answers))``, the mean over problems of the mean recall of their classes.

    A class that a draw does not hold has no recall and is left out of its mean.
    """
    result = np.empty((len(counts), len(answers)))
    for column, answer in enumerate(answers):
        recalls = []
        for problem in range(answer.truth.shape[1]):
            truth, right = answer.truth[:, problem], answer.truth[:, problem] == answer.called[:, problem]
            members = np.stack([truth == code for code in np.unique(truth)], axis=1).astype(np.float64)
            held = counts @ members
            hits = counts @ (members * right[:, None])
            share = np.divide(hits, held, out=np.full_like(hits, np.nan), where=held > 0)
            recalls.append(np.nanmean(share, axis=1))
        result[:, column] = 1.0 - np.mean(recalls, axis=0)
    return result


def _auroc(answer: Answers) -> Figure:
    """Mean AUROC over findings or classes, those of one label only left out."""
    cases = np.arange(len(answer.truth))
    estimates = []
    for column in range(answer.positive.shape[1]):
        try:
            estimates.append(auc(answer.positive[:, column], answer.scores[:, column], cases, len(cases)))
        except StatisticsError:
            continue
    if not estimates:
        return Figure(value=math.nan, lower=math.nan, upper=math.nan)
    if len(estimates) == 1:
        return Figure(value=estimates[0].value, lower=estimates[0].lower, upper=estimates[0].upper)
    value = float(np.mean([estimate.value for estimate in estimates]))
    influence = np.mean([e.influence for e in estimates if e.influence is not None], axis=0)
    half = normal_quantile(0.95) * math.sqrt(len(cases) / (len(cases) - 1) * float((influence**2).sum()))
    return Figure(value=value, lower=max(0.0, value - half), upper=min(1.0, value + half))


def _exact(accuracy: Figure, answer: Answers) -> Figure:
    """Limits of a rate of 1 or 0 in every class, by the smallest class: ``(α/2)^(1/n)``."""
    smallest = min(int(np.unique(column, return_counts=True)[1].min()) for column in answer.truth.T)
    reach = 1.0 - 0.025 ** (1.0 / smallest)
    return Figure(value=accuracy.value, lower=max(0.0, accuracy.value - reach), upper=min(1.0, accuracy.value + reach))


def _drawn(values: Doubles) -> Figure:
    return _figure(float(values[0]), values[1:])


def _figure(value: float, draws: Doubles) -> Figure:
    lower, upper = (float(limit) for limit in np.quantile(draws, (0.025, 0.975)))
    return Figure(value=float(value), lower=min(lower, float(value)), upper=max(upper, float(value)))


def evaluate(
    classifier: Classifier, clean: TestSet, corrupted: Iterator[TestSet], set_name: str, *, seed: int = 0
) -> tuple[list[Row], list[Summary]]:
    """All figures of one set; one file is in memory at a time."""
    draws = bootstrap_counts(len(clean.labels), seed=seed)
    plain = ask(classifier, clean.images[0], clean.labels)
    rows = list(rows_of(clean.name, [plain], first=0, draws=draws))
    answers: dict[str, Sequence[Answers]] = {}
    for part in corrupted:
        answers[part.name] = [ask(classifier, part.images[level], part.labels) for level in range(SEVERITIES)]
        rows += rows_of(part.name, answers[part.name], first=1, draws=draws)
    return rows, summaries(set_name, plain, answers, draws)
