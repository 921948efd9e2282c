"""The way of an audit from a plan to its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from robustbench_rad.audit.measuring import evaluate, fit, look_before, pending_chunks
from robustbench_rad.audit.prepared import Prepared, prepare, timed
from robustbench_rad.audit.record import judging_record
from robustbench_rad.classifier import untouched
from robustbench_rad.defences.comparison import UNDEFENDED, beside
from robustbench_rad.evaluation import Evaluator
from robustbench_rad.gallery import pictures
from robustbench_rad.plan import Plan
from robustbench_rad.pricing import sentence
from robustbench_rad.progress import Progress
from robustbench_rad.query import CountingQuery
from robustbench_rad.result import AuditResult
from robustbench_rad.runs import RunFolder, default_folder
from robustbench_rad.scores import ScoreTable


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A finished audit: the result and where its run lies."""

    result: AuditResult
    folder: Path


def run_audit(plan: Plan, *, folder: Path | None = None, progress: Progress | None = None) -> Audit:
    """Run an audit, or continue it where it was stopped.

    Args:
        plan: What to audit.
        folder: Run folder; default: ``runs/<plan>-<hash>``, the same for the same plan, model and data.
        progress: Is told what happens.

    Raises:
        RobustbenchRadError: Anything the user can put right; nothing that was finished is lost.
    """
    progress = progress or Progress()
    try:
        prepared = prepare(plan, progress=progress)
        progress.message(sentence(prepared.prices))
        declared = plan.path(plan.run.folder) if plan.run.folder else None
        place = folder or declared or default_folder(Path(plan.source).stem, prepared.identity)
        with (
            RunFolder.open(place, prepared.identity, chunk_size=plan.run.chunk_size) as run,
            untouched(prepared.classifier.module),
            _full_float32(),
        ):
            if prepared.undefended is not None:
                with timed(prepared.timings_s, "without defences"):
                    _run_undefended(prepared.undefended, place, progress)
            return Audit(result=beside(_run(prepared, run, progress), place), folder=place)
    finally:
        progress.close()


def _run_undefended(prepared: Prepared, place: Path, progress: Progress) -> None:
    """Run the model without its defences first, in a folder inside the run folder; continued like any other run."""
    progress.message("first the model without its defences, to compare with")
    chunk_size = prepared.plan.run.chunk_size
    with RunFolder.open(place / UNDEFENDED, prepared.identity, chunk_size=chunk_size, within=place) as run:
        _run(prepared, run, progress)
    progress.message("now the model behind its defences")


@contextmanager
def _full_float32() -> Iterator[None]:
    """Compute in full float32: the shortened mantissa of TF32 would make margins depend on the device's mood."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _run(prepared: Prepared, run: RunFolder, progress: Progress) -> AuditResult:
    timings = prepared.timings_s
    evaluator = Evaluator(
        classifier=prepared.classifier,
        conditions=prepared.conditions,
        states={},
        modality=prepared.plan.data.modality,
        seed=prepared.plan.seed,
        batch_size=prepared.plan.run.batch_size,
        query=CountingQuery(prepared.classifier),
        progress=progress,
        name=run.hashed,
    )
    with timed(timings, "preflight"):
        items = look_before(prepared, evaluator)
    with timed(timings, "fit"):
        needed = pending_chunks(prepared, run) or prepared.plan.report.images
        states = fit(prepared, run, evaluator, progress) if needed else {}
    evaluator = replace(evaluator, states=states)
    with timed(timings, "pass"):
        chunks = evaluate(prepared, run, evaluator, progress)
    record = judging_record(prepared, run, items, chunks)
    record.write(run.path)
    with timed(timings, "judge"):
        scores = ScoreTable.join(chunks, prepared.table.case_ids)
        result = record.judge(scores, prepared.profile, tuple(record.measured.values()))
    images = pictures(prepared, evaluator, scores) if prepared.plan.report.images else []
    run.finish()
    ended = {"timings_s": timings, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    provenance = result.provenance.model_copy(update=ended)
    return result.model_copy(update={"pictures": images, "provenance": provenance})
