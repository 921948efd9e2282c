"""The four sources of cases behind one door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robustbench_rad.cases import CaseRecord, Reader
from robustbench_rad.data.images import ReadOptions
from robustbench_rad.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Source:
    """Records of a source, how they are decoded, and what was left out."""

    records: tuple[CaseRecord, ...]
    reader: Reader
    excluded: Mapping[str, int] = field(default_factory=dict)


def read_source(plan: Plan, *, volumes: bool) -> Source:
    """Read the source that the plan names.

    Raises:
        DataError: A manifest, a label or a file is not as declared.
    """
    options = ReadOptions.from_plan(plan, volumes=volumes)
    match plan.data.source:
        case "npz":
            from robustbench_rad.data.npz import NpzReader, read_npz

            lesion = plan.data.lesion.column if plan.data.lesion else None
            reader = NpzReader(split=plan.data.split, options=options, lesion=lesion)
            return Source(records=read_npz(plan, volumes=volumes), reader=reader)
        case "dicom":
            from robustbench_rad.data.dicom_folder import read_folder

            return read_folder(plan, options)
        case "factory":
            from robustbench_rad.data.dataset import read_dataset

            return read_dataset(plan, options)
        case _:
            from robustbench_rad.data.files import FileReader
            from robustbench_rad.data.manifest import read_manifest

            return Source(records=read_manifest(plan, volumes=volumes), reader=FileReader(options=options))
