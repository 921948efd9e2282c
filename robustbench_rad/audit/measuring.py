"""What is asked of the model: a look at a sample, what must be learned from the whole set, and the pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustbench_rad.audit.prepared import Prepared
from robustbench_rad.conditions import Batch, Space, State
from robustbench_rad.evaluation import Evaluator
from robustbench_rad.loader import in_chunks, load_in_order
from robustbench_rad.preflight import choose_sample, preflight
from robustbench_rad.preflight_items import left_out_item, sentinel_items
from robustbench_rad.progress import Progress
from robustbench_rad.result import PreflightItem
from robustbench_rad.runs import RunFolder
from robustbench_rad.scores import Chunk
from robustbench_rad.seeds import derive_seed

PREFLIGHT_CASES = 16


def look_before(prepared: Prepared, evaluator: Evaluator) -> list[PreflightItem]:
    """Look at a small sample, the same one for any order of the cases."""
    table, seed = prepared.table, prepared.plan.seed
    ranked = sorted(range(len(table.records)), key=lambda i: derive_seed(seed, "preflight", table.records[i].case_id))
    chosen = choose_sample(table.labels, ranked, size=PREFLIGHT_CASES)
    cases = list(load_in_order(table, sorted(chosen), workers=0))
    items = preflight(prepared.classifier, [evaluator.display_batch(cases)], table=table, plan=prepared.plan)
    left_out = left_out_item(prepared.profile)
    return [*items, *sentinel_items(prepared.conditions), *([] if left_out is None else [left_out])]


def fit(prepared: Prepared, run: RunFolder, evaluator: Evaluator, progress: Progress) -> dict[str, State | None]:
    """Let every condition that needs it learn from the whole set; what an earlier attempt learned is read back."""
    states: dict[str, State | None] = {}
    device = prepared.classifier.device
    for condition in prepared.conditions:
        if not condition.needs_fit:
            continue
        state = run.read_state(condition.id)
        if state is None:
            progress.stage(f"fitting {condition.id}", len(prepared.table.records))
            state = condition.fit(prepared.classifier, _fit_batches(prepared, evaluator, condition.works_in, progress))
            if state is not None:
                run.write_state(condition.id, state)
        states[condition.id] = state and {name: tensor.to(device) for name, tensor in state.items()}
    return states


def _fit_batches(prepared: Prepared, evaluator: Evaluator, space: Space, progress: Progress) -> Iterator[Batch]:
    table, run = prepared.table, prepared.plan.run
    loaded = load_in_order(table, range(len(table.records)), workers=run.workers)
    for cases in in_chunks(loaded, run.batch_size):
        yield from evaluator.batches(space, cases)
        progress.advance(len(cases))


def evaluate(prepared: Prepared, run: RunFolder, evaluator: Evaluator, progress: Progress) -> list[Chunk]:
    """Evaluate the chunks that are not yet on disk, and read all of them."""
    members = _members(prepared.table.case_ids, run.chunk_size)
    pending = pending_chunks(prepared, run)
    done = len(members) - len(pending)
    progress.stage("audit", len(prepared.table.records))
    if done:
        progress.message(f"continuing: {done} of {len(members)} chunks are already on disk")
        progress.advance(sum(len(m) for n, m in enumerate(members) if n not in set(pending)))
    order = [n * run.chunk_size + i for n in pending for i in range(len(members[n]))]
    cases = load_in_order(prepared.table, order, workers=prepared.plan.run.workers)
    for number in pending:
        chunk = evaluator.chunk([next(cases) for _ in members[number]])
        run.write_chunk(number, chunk)
        progress.advance(len(members[number]))
        done += 1
        progress.chunk(done, len(members))
    return list(run.chunks(members))


def pending_chunks(prepared: Prepared, run: RunFolder) -> list[int]:
    """Numbers of the chunks that are not yet on disk."""
    count = len(_members(prepared.table.case_ids, run.chunk_size))
    return [number for number in range(count) if not run.chunk_path(number).is_file()]


def _members(case_ids: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(case_ids[start : start + size]) for start in range(0, len(case_ids), size)]
