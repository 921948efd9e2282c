"""From a plan to the table of its cases, all of them readable."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from robustbench_rad.anatomy_providers import NamedProvider
from robustbench_rad.atlas import read_atlas
from robustbench_rad.cases.records import Unreadable
from robustbench_rad.cases.table import CaseTable, Progress
from robustbench_rad.errors import DataError

if TYPE_CHECKING:
    from robustbench_rad.plan import Plan


def read_cases(plan: Plan, *, volumes: bool = False) -> CaseTable:
    """Read the plan's labelled test set; images are decoded later, one at a time.

    Args:
        plan: The plan.
        volumes: The model takes volumes; also taken from a ``model.input.size`` of three numbers.

    Raises:
        DataError: A manifest, a label or a file is not as declared.
        PlanError: The plan's atlas is not.
    """
    from robustbench_rad.data.boxes import with_boxes
    from robustbench_rad.data.sources import read_source

    volumes = volumes or len(plan.model.input.size) == 3
    atlas = read_atlas(plan, volumes=volumes)
    source = read_source(plan, volumes=volumes)
    table = CaseTable(
        findings=plan.model.names,
        records=with_boxes(source.records, plan, volumes=volumes),
        modality=plan.data.modality,
        reader=source.reader,
        excluded=source.excluded,
        provider=_provider(plan),
        atlas=atlas,
    )
    return table.subset(plan.data.max_cases, plan.seed) if plan.data.max_cases else table


def _provider(plan: Plan) -> NamedProvider | None:
    name = plan.data.anatomy.provider if plan.data.anatomy is not None else None
    return NamedProvider(name=name, base=plan.base) if name else None


def require_readable(table: CaseTable, policy: str, *, workers: int = 0, progress: Progress | None = None) -> CaseTable:
    """Decode every case once, then fail on, or leave out, the unreadable ones.

    Args:
        table: All cases.
        policy: ``fail`` or ``skip`` (``data.on_unreadable``).
        workers: Processes that decode.
        progress: Called with cases done and cases in all.

    Raises:
        DataError: Lists every unreadable file under ``fail``, or when nothing is left under ``skip``.
    """
    unreadable = table.verify(workers=workers, progress=progress)
    if unreadable and (policy == "fail" or len(unreadable) == len(table)):
        only_masks = all("expected a mask" in item.reason for item in unreadable)
        without = " Left out of [data], audits that need masks are not assessable." if only_masks else ""
        hint = f'Repair them, or set data.on_unreadable = "skip".{without}'
        raise DataError(_listing(unreadable, len(table)), hint=hint)
    return table.without([item.record.case_id for item in unreadable], "unreadable file")


def _listing(unreadable: Iterable[Unreadable], count: int) -> str:
    lines = [f"  {item.record.case_id}: {item.reason}" for item in unreadable]
    return "\n".join([f"{len(lines)} of {count} cases cannot be read:", *lines])
