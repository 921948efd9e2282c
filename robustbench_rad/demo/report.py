"""What the demo's classifiers do, measured on phantoms that nobody trained on: the table of ``docs/demo.md``.

The audit says the same with intervals and verdicts. This table has what an audit cannot: the same phantoms with and
without the marker, and imaged again at a lower dose.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from robustbench_rad.demo import KINDS, Kind, demo_plan
from robustbench_rad.demo.dataset import AUDIT_ASSOCIATION, AUDIT_SEED, phantom_set
from robustbench_rad.demo.measures import auroc, logits, within_labels, without_anatomy
from robustbench_rad.demo.models import LesionCNN, lesion_cnn

CASES = 1000
DOSES = (0.25, 0.1, 0.05)


def load(kind: Kind, folder: Path | None = None) -> LesionCNN:
    """One of the demo's classifiers with its weights, in evaluation mode."""
    model = lesion_cnn()
    model.load_state_dict(load_file(demo_plan(kind, folder=folder)["model"]["weights"]))
    return model.eval()


def figures(kind: Kind, folder: Path | None = None, *, cases: int = CASES) -> dict[str, float]:
    """Measure one classifier on ``cases`` phantoms of the audit's population."""
    model = load(kind, folder)
    probability = demo_plan(kind, folder=folder)["model"]["thresholds"]["lesion"]
    cut = float(torch.logit(torch.tensor(probability)))
    data = phantom_set(AUDIT_SEED, cases, association=AUDIT_ASSOCIATION)
    scores, labels = logits(model, data.images), data.labels
    masked = logits(model, without_anatomy(data))
    without, with_marker = (
        logits(model, phantom_set(AUDIT_SEED, cases, marker=marker).images) for marker in (False, True)
    )
    measured = {
        "AUROC, audit population": auroc(scores, labels),
        "AUROC, nobody has a marker": auroc(without, labels),
        "sensitivity at the locked threshold": float((scores[labels == 1] >= cut).float().mean()),
        "specificity at the locked threshold": float((scores[labels == 0] < cut).float().mean()),
        "AUROC without the anatomy": auroc(masked, labels),
        "spread retained without the anatomy": float(masked.std() / scores.std()),
        "AUROC of the score for the scanner, within a label": within_labels(scores, data.sharp, labels),
        "effect of adding the marker, in SD of the score": float((with_marker - without).mean() / scores.std()),
        "calls changed by adding the marker": float(((with_marker >= cut) != (without >= cut)).float().mean()),
    }
    for dose in DOSES:
        noisy = phantom_set(AUDIT_SEED, cases, association=AUDIT_ASSOCIATION, dose_fraction=dose)
        measured[f"AUROC at {dose:g} of the dose"] = auroc(logits(model, noisy.images), labels)
    return measured


def markdown_table(folder: Path | None = None, *, cases: int = CASES) -> str:
    """All figures of both classifiers."""
    measured = [figures(kind, folder, cases=cases) for kind in KINDS]
    rows = [f"| {cases} phantoms | {' | '.join(KINDS)} |", "|---|" + "---|" * len(KINDS)]
    rows += [f"| {name} | {' | '.join(f'{table[name]:.3f}' for table in measured)} |" for name in measured[0]]
    return "\n".join(rows)
