"""The same model with and without its defences, on the same cases and under the same conditions.

An audit of a defended model first audits the model without them, into a folder inside its own. Both runs search with the
same attacks, each against the model it is about: what is compared is what an attacker who knows the defence can do.
Margins are set against each other case by case, at every level, and all intervals hold together (max-T). Nothing here is
judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from robustbench_rad.checks.comparisons import try_interval
from robustbench_rad.checks.metrics import NAMES
from robustbench_rad.defences.sections import approximate
from robustbench_rad.errors import StatisticsError
from robustbench_rad.judging import FILE, FinishedRun
from robustbench_rad.regression_contrasts import RISES, Contrast, Runs, clean, conditions
from robustbench_rad.regression_loss import BEFORE, NOW, Sample, discordant, loss, metric
from robustbench_rad.result import DEFENCES, AuditResult, Domain, Interval, Table
from robustbench_rad.seeds import derive_seed
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import joint_confidence

UNDEFENDED = "undefended"
"""Folder of the run without defences, inside the run folder of the defended model."""

TITLE = "With and without the defences"
COLUMNS = ["check", "finding", "metric", "level", "without", "with", "gain", "lower", "upper", "what it rests on"]
CONFIDENCE = 0.95
Cell = str | float | int | None


def beside(result: AuditResult, folder: Path) -> AuditResult:
    """Add to the result of a run what its defences are and, where the model was also run without them, what they gain.

    Args:
        result: Result of the run in ``folder``; given back as it is when the model has no defences.
        folder: Run folder of a finished run.
    """
    if not result.plan["model"].get("defences"):
        return result
    run = FinishedRun.read(folder)
    model = run.record.plan.model
    notices = [f"The model is audited behind its defences: {'; '.join(map(str, model.defences))}.", *result.notices]
    tables = list(result.tables)
    if model.compare_undefended and (folder / UNDEFENDED / FILE).is_file():
        tables += gains(run, FinishedRun.read(folder / UNDEFENDED))
    return result.model_copy(update={"notices": notices, "tables": tables})


def gains(defended: FinishedRun, undefended: FinishedRun) -> list[Table]:
    """Compare every metric on clean images, under every attack and under every shift: one table per domain.

    Gain is the metric with the defences minus the metric without: above 0 they help, below 0 they cost.

    Args:
        defended: The run of the defended model.
        undefended: The run of the same model without its defences.
    """
    runs = Runs.of(defended, undefended)
    found = [contrast for look in (clean, conditions) for contrast in look(runs).contrasts]
    contrasts = [contrast for contrast in found if contrast.check != RISES]
    confidence = _joint(contrasts, derive_seed(defended.record.plan.seed, DEFENCES) % 2**32)
    note = (
        "Gain: with minus without, case by case; above 0 the defences help, below 0 they cost. "
        f"Its limits hold together for all {len(contrasts)} rows of these tables (max-T, {CONFIDENCE:.0%}); those of one "
        f"model are its own. Attacks search each model anew, and go through the defences. {runs.pairing.capitalize()}."
    )
    if through := approximate(defended.record.plan.model.defences):
        note += (
            f" Gradients pass straight through {', '.join(through)}, which is an approximation: what is gained under "
            "gradient attacks is an upper estimate until gradient-free attacks agree."
        )
    rows = {domain: [_row(c, confidence) for c in contrasts if c.domain is domain] for domain in Domain}
    return [
        Table(check=DEFENCES, domain=domain, title=TITLE, columns=COLUMNS, rows=members, note=note)
        for domain, members in rows.items()
        if members
    ]


def _joint(contrasts: Sequence[Contrast], seed: int) -> float:
    """Confidence of one interval at which all of them hold together."""
    first = [_gain(contrast, CONFIDENCE) for contrast in contrasts]
    influences = [e.influence for e in first if isinstance(e, Estimate) and e.influence is not None]
    return joint_confidence(np.stack(influences), CONFIDENCE, seed=seed) if len(influences) > 1 else CONFIDENCE


def _gain(contrast: Contrast, confidence: float) -> Estimate | str:
    """The gain, or why there is none."""
    if isinstance(contrast.sample, str):
        return contrast.sample
    try:
        return loss(contrast.sample, contrast.metric, confidence).affine(scale=-1.0)
    except StatisticsError as error:
        return error.message


def _row(contrast: Contrast, confidence: float) -> list[Cell]:
    gain = _gain(contrast, confidence)
    what: list[Cell] = [
        contrast.check,
        contrast.finding,
        NAMES[contrast.metric],
        str(contrast.level) if contrast.level else "clean",
    ]
    if isinstance(gain, str) or isinstance(contrast.sample, str):
        return [*what, None, None, None, None, None, str(gain)]
    shown: list[Cell] = [_shown(contrast.sample, run, contrast.metric) for run in (BEFORE, NOW)]
    said = [contrast.doubt, discordant(contrast.sample, contrast.metric), gain.method]
    return [*what, *shown, gain.value, gain.lower, gain.upper, "; ".join(filter(None, said))]


def _shown(sample: Sample, run: int, name: str) -> str:
    made: Interval = try_interval(partial(metric, sample, run, name, CONFIDENCE))
    if made.estimate is None or made.lower is None or made.upper is None:
        return made.method
    return f"{made.estimate:.3f} [{made.lower:.3f}, {made.upper:.3f}]"
