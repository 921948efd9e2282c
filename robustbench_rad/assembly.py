"""Parts of a result that describe what was audited: model, data, findings, provenance."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_rad.checks.comparisons import try_interval
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.checks.metrics import metric
from robustbench_rad.conditions import Level
from robustbench_rad.measured import without_folders
from robustbench_rad.plan import Plan
from robustbench_rad.planning import Assumptions, certify, shift_comparisons, shift_tolerance
from robustbench_rad.planning_counts import CountTable
from robustbench_rad.profile import Profile
from robustbench_rad.result import Certifiable, DataSummary, FindingSummary, Interval, ModelSummary

if TYPE_CHECKING:
    from robustbench_rad.cases import CaseTable
    from robustbench_rad.classifier import Classifier

PACKAGES = ("torch", "numpy", "scipy", "pandas", "captum", "albumentations", "pydicom", "pydantic", "rich")
MOST_VALUES = 30  # a metadata column with more values is summarised by its number of values only


def model_summary(plan: Plan, classifier: Classifier) -> ModelSummary:
    """Describe the model; a path is shortened to its file name."""
    source, _, function = plan.model.factory.rpartition(":")
    return ModelSummary(
        source=f"{Path(source).name}:{function}" if source else Path(function).name,
        head=plan.model.head,
        findings=list(plan.model.names),
        parameters=sum(parameter.numel() for parameter in classifier.module.parameters()),
        weights_sha256=classifier.weights_sha256,
        input=plan.model.input.model_dump(mode="json", exclude_none=True),
    )


def shareable_plan(plan: Plan) -> dict[str, Any]:
    """The effective plan for the record; an absolute path is shortened to its last part, for a report is passed on."""
    found: dict[str, Any] = without_folders(plan.effective())
    return found


def range_in(plan: Plan) -> tuple[float, str] | None:
    """The display range in the unit a reader knows: HU of the window, or grey levels of the stored image; None: neither."""
    section = plan.model.input
    if section.window_hu is not None:
        return section.window_hu[1] - section.window_hu[0], "HU"
    if plan.data.stored_bits is not None:
        return float(2**plan.data.stored_bits - 1), "grey levels"
    return None


def with_physical_units(plan: Plan, levels: Mapping[str, tuple[Level, ...]]) -> dict[str, tuple[Level, ...]]:
    """Levels given as a share of the display range, with what that is in HU or in grey levels of the stored image."""
    known = range_in(plan)

    def physical(level: Level) -> Level:
        if level.unit != "of display range" or known is None:
            return level
        size, unit = level.value * known[0], known[1]
        return replace(level, unit=f"of range = {size:.3g} {unit if round(size, 3) != 1 else unit.removesuffix('s')}")

    return {condition: tuple(physical(level) for level in ladder) for condition, ladder in levels.items()}


def data_summary(plan: Plan, table: CaseTable) -> DataSummary:
    """Describe the cases in numbers; no identifier is part of it."""
    columns = {}
    for column in plan.data.metadata:
        counts = Counter(value or "(missing)" for value in table.metadata(column))
        columns[column] = dict(counts.most_common()) if len(counts) <= MOST_VALUES else {"distinct values": len(counts)}
    return DataSummary(
        cases=len(table.records),
        patients=len(set(table.patients)),
        modality=plan.data.modality,
        role=plan.data.role,
        metadata=columns,
        excluded=dict(table.excluded),
        digest=table.digest,
    )


def finding_summaries(plan: Plan, context: JudgeContext) -> list[FindingSummary]:
    """Labels and clean performance of every finding."""
    return [_finding(plan, context, name) for name in context.findings]


def _finding(plan: Plan, context: JudgeContext, name: str) -> FindingSummary:
    label, clean = context.label(name), context.clean(name)

    def shown(quantity: str) -> Interval:
        return try_interval(partial(metric, context, quantity, name, clean, context.confidence))

    claim = plan.claims.get(name)
    return FindingSummary(
        name=name,
        threshold=plan.model.thresholds.get(name),
        positives=int((label == 1).sum()),
        negatives=int((label == 0).sum()),
        unknown=int(np.isnan(label).sum()),
        claim_auroc=claim.auroc if claim else None,
        claim_sensitivity=claim.sensitivity if claim else None,
        claim_specificity=claim.specificity if claim else None,
        auroc=shown("auroc"),
        sensitivity=shown("sensitivity"),
        specificity=shown("specificity"),
    )


def certifiable(profile: Profile, context: JudgeContext, findings: list[FindingSummary]) -> list[Certifiable]:
    """What the labels of these cases could show, whole and by each value of each metadata column."""
    by = [(column,) for column, cells in context.metadata.items() if 1 < len(set(cells)) <= MOST_VALUES]
    base = Assumptions(
        comparisons=shift_comparisons(profile, context.levels, len(findings)),
        auroc_tolerance=shift_tolerance(profile, "auroc"),
        sensitivity_tolerance=shift_tolerance(profile, "sensitivity"),
    )
    assume = {
        finding.name: replace(
            base,
            auroc=_supposed(finding.claim_auroc, finding.auroc, base.auroc),
            sensitivity=_supposed(finding.claim_sensitivity, finding.sensitivity, base.sensitivity),
        )
        for finding in findings
    }
    table = CountTable(
        findings=context.findings, labels=context.labels, patients=context.patients, columns=context.metadata
    )
    return certify(table, by, assume=assume)


def _supposed(claim: float | None, measured: Interval, default: float) -> float:
    """The claim, else what was measured, kept off the ends where the formulas have no variance."""
    value = measured.estimate if claim is None else claim
    return default if value is None else min(max(value, 0.6), 0.99)


def versions() -> dict[str, str]:
    """Versions of what the numbers rest on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_sha256() -> str:
    """Hash of the package's own source files."""
    import robustbench_rad

    digest = hashlib.sha256()
    for root in robustbench_rad.__path__:
        for name, content in sorted(_sources(Path(root))):
            digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


def _sources(root: Path) -> list[tuple[str, bytes]]:
    import robustbench_rad.attacks
    import robustbench_rad.reports
    import robustbench_rad.shifts

    mapped = {
        name: Path(next(iter(package.__path__)))
        for name, package in (
            ("attacks", robustbench_rad.attacks),
            ("reports", robustbench_rad.reports),
            ("shifts", robustbench_rad.shifts),
        )
    }
    own = [
        (p.relative_to(root).as_posix(), p) for p in root.rglob("*.py") if p.relative_to(root).parts[0] not in mapped
    ]
    others = [(f"{name}/{p.name}", p) for name, folder in mapped.items() for p in folder.glob("*.py")]
    return [(name, path.read_bytes()) for name, path in own + others]
