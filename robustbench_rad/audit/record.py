"""What is kept of a run beside its scores, so that it can be judged again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from robustbench_rad import __version__
from robustbench_rad.assembly import code_sha256, data_summary, model_summary, shareable_plan, versions
from robustbench_rad.audit.prepared import Prepared
from robustbench_rad.defences.sections import passes as defence_passes
from robustbench_rad.judging import JudgingRecord, policy_of
from robustbench_rad.measured import Measured
from robustbench_rad.pairing import CaseSet
from robustbench_rad.plan import make_plan
from robustbench_rad.result import PreflightItem, Provenance
from robustbench_rad.runs import RunFolder
from robustbench_rad.scores import Chunk


def judging_record(
    prepared: Prepared, run: RunFolder, items: Sequence[PreflightItem], chunks: Sequence[Chunk]
) -> JudgingRecord:
    """Everything that judging needs beside the chunks; no identifier in the clear."""
    plan, table = prepared.plan, prepared.table
    return JudgingRecord(
        cases=tuple(run.hashed(case) for case in table.case_ids),
        case_set=CaseSet.of(table),
        patients=table.patient_codes,
        labels=table.labels.astype("float64"),
        metadata={column: table.metadata(column) for column in plan.data.columns},
        measured={condition.id: Measured.of(condition) for condition in prepared.conditions},
        plan=make_plan(shareable_plan(plan), base=Path(), source=plan.source),
        profile=prepared.file,
        preflight=tuple(items),
        model=model_summary(plan, prepared.classifier),
        data=data_summary(plan, table),
        provenance=_provenance(prepared, run, chunks),
    )


def _provenance(prepared: Prepared, run: RunFolder, chunks: Sequence[Chunk]) -> Provenance:
    passes: dict[str, float] = {}
    for chunk in chunks:
        for condition, (forwards, backwards) in chunk.passes.items():
            passes[condition] = passes.get(condition, 0.0) + forwards + 2 * backwards
    per_case = defence_passes(prepared.plan.model.defences) / len(prepared.table.records)
    return Provenance(
        tool_version=__version__,
        code_sha256=code_sha256(),
        measurement_sha256=prepared.identity.sha256,
        **policy_of(prepared.profile),
        seed=prepared.plan.seed,
        device=str(prepared.classifier.device),
        versions=versions(),
        started=run.started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        timings_s=prepared.timings_s,
        passes={condition: round(total * per_case, 2) for condition, total in passes.items()},
    )
