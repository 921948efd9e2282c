"""The user's own torch ``Dataset``, made by a factory that the plan names.

An item is a dictionary with ``image`` and ``labels``, and optionally ``case``, ``patient``, ``metadata``, ``spacing_mm``,
the masks ``anatomy`` and ``lesion`` and the map ``tissue``; or a pair ``(image, labels)``. Reading the table goes through all
items once, because labels are in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.cases import CaseRecord
from robustbench_rad.data.images import PhysicalImage, ReadOptions, physical_from_array
from robustbench_rad.data.labels import parse_number_label, refuse_duplicates
from robustbench_rad.data.sources import Source
from robustbench_rad.data.tissue import tissue_codes
from robustbench_rad.errors import DataError, ImageError, suggestion
from robustbench_rad.factories import call_factory
from robustbench_rad.plan import Plan

KEYS = ("image", "labels", "case", "patient", "metadata", "anatomy", "lesion", "tissue", "spacing_mm")
Item = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetReader:
    """Takes the case's item out of the data set, which each process makes once."""

    factory: str
    base: Path
    options: ReadOptions
    tissues: tuple[int, ...] = (1, 2, 3)

    def read(self, record: CaseRecord) -> PhysicalImage:
        """Take one image.

        Raises:
            ImageError: Not one grey image of the declared range.
        """
        item = _item(_dataset(self.factory, self.base), record.index)
        array = _plane(item["image"], record.reference, volumes=self.options.volumes)
        pixels, bits = physical_from_array(array, self.options, record.reference)
        return PhysicalImage(
            pixels=pixels,
            unit=self.options.unit,
            stored_bits=bits,
            anatomy=_anatomy(item, axes=pixels.ndim),
            lesion=_lesion(item, pixels.shape, record.reference),
            tissue=_tissue(item, pixels.shape, self.tissues, record.reference),
        )

    def fingerprint(self, record: CaseRecord) -> str:
        """SHA-256 over the pixels of image and masks."""
        image = self.read(record)
        mask = b"" if image.anatomy is None else _told_apart(image.anatomy, image.pixels.shape)
        lesion = b"" if image.lesion is None else b"lesion" + image.lesion.tobytes()
        tissue = b"" if image.tissue is None else b"tissue" + image.tissue.tobytes()
        whole = f"{image.pixels.shape}".encode() + image.pixels.tobytes() + mask + lesion + tissue
        return hashlib.sha256(whole).hexdigest()


def read_dataset(plan: Plan, options: ReadOptions) -> Source:
    """Make the records of a data set.

    Raises:
        DataError: The factory fails, the data set is empty, or an item is not as expected.
    """
    if plan.data.lesion is not None and plan.data.lesion.column is not None:
        raise DataError(
            "data.lesion.column: a data set has no columns", hint="Give each item its mask under the key 'lesion'."
        )
    text = plan.data.factory or ""
    dataset = _dataset(text, plan.base)
    numbers = {} if plan.data.tissue is None else {"tissues": plan.data.tissue.numbers}
    reader = DatasetReader(factory=text, base=plan.base, options=options, **numbers)
    records = tuple(_record(_item(dataset, index), index, plan) for index in range(_length(dataset, text)))
    refuse_duplicates((record.case_id for record in records), f"data.factory = {text!r}")
    if reader.fingerprint(records[0]) != reader.fingerprint(records[0]):
        raise DataError(
            f"data.factory = {text!r}: item 0 gives another image when it is read again",
            hint="Turn random augmentation off: an audit needs the same image each time.",
        )
    return Source(records=records, reader=reader)


@lru_cache(maxsize=2)
def _dataset(factory: str, base: Path) -> Any:  # noqa: ANN401 - whatever the user's factory returns
    return call_factory(factory, base=base, arguments={}, kind=DataError, key="data.factory")


def _length(dataset: Any, text: str) -> int:  # noqa: ANN401
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"data.factory = {text!r}: expected a torch Dataset with a length, got {type(dataset).__name__}"
        )
    if len(dataset) == 0:
        raise DataError(f"data.factory = {text!r}: the data set is empty")
    return len(dataset)


def _item(dataset: Any, index: int) -> Item:  # noqa: ANN401
    """Take an item as a dictionary.

    Raises:
        DataError: It raises, or is neither a dictionary with ``image`` and ``labels`` nor a pair.
    """
    try:
        item = dataset[index]
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"data.factory: item {index} cannot be read: {type(error).__name__}: {error}") from error
    if isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
        return {"image": item[0], "labels": item[1]}
    if not isinstance(item, Mapping) or not {"image", "labels"} <= set(item):
        came = f"the keys {', '.join(map(str, item))}" if isinstance(item, Mapping) else type(item).__name__
        raise DataError(
            f"data.factory: item {index}: expected a pair (image, labels) or a dictionary with both, got {came}"
        )
    unknown = [str(key) for key in item if key not in KEYS]
    if unknown:
        raise DataError(f"data.factory: item {index}: unknown key {unknown[0]!r}", hint=suggestion(unknown[0], KEYS))
    return item


def _record(item: Item, index: int, plan: Plan) -> CaseRecord:
    case_id = str(item.get("case", index))
    return CaseRecord(
        case_id=case_id,
        patient_id=str(item.get("patient", case_id)),
        reference=f"item {index}",
        files=(),
        labels=_labels(item["labels"], index, plan),
        metadata=_metadata(item.get("metadata", {}), index, plan),
        index=index,
        spacing_mm=_spacing(item.get("spacing_mm"), index),
    )


def _labels(given: Any, index: int, plan: Plan) -> tuple[float, ...]:  # noqa: ANN401
    names = plan.model.names
    where = f"data.factory: item {index}: labels"
    if isinstance(given, Mapping):
        keys = [plan.data.findings.get(name, name) for name in names]
        missing = [key for key in keys if key not in given]
        if missing:
            raise DataError(f"{where}: {missing[0]!r} is missing", hint=suggestion(missing[0], map(str, given)))
        values = [given[key] for key in keys]
    else:
        values = list(np.atleast_1d(np.asarray(given, dtype=object)))
    if len(values) != len(names):
        raise DataError(f"{where}: expected one label per finding ({len(names)}), got {len(values)}")
    try:
        return tuple(parse_number_label(value, plan.data.uncertain) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: {error}") from error


def _metadata(given: Any, index: int, plan: Plan) -> dict[str, str]:  # noqa: ANN401
    missing = [name for name in plan.data.columns if name not in given]
    if missing:
        raise DataError(
            f"data.factory: item {index}: metadata {missing[0]!r} is missing",
            hint=suggestion(missing[0], map(str, given)),
        )
    return {name: "" if given[name] is None else str(given[name]) for name in plan.data.columns}


def _spacing(given: Any, index: int) -> tuple[float, ...] | None:  # noqa: ANN401
    if given is None:
        return None
    try:
        spacing = tuple(float(value) for value in np.atleast_1d(np.asarray(given)))
    except (TypeError, ValueError):
        spacing = ()
    if len(spacing) not in (1, 2, 3) or not all(value > 0 for value in spacing):
        raise DataError(f"data.factory: item {index}: expected spacing_mm above 0, got {given!r}")
    return spacing * 2 if len(spacing) == 1 else spacing


def _plane(given: Any, where: str, *, volumes: bool) -> npt.NDArray[Any]:  # noqa: ANN401
    array = _array(given)
    dimensions = 3 if volumes else 2
    if array.ndim == dimensions + 1 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != dimensions:
        shape = "(D, H, W) or (1, D, H, W)" if volumes else "(H, W) or (1, H, W)"
        raise ImageError(f"{where}: expected one grey image of shape {shape}, got {array.shape}")
    return array


def _array(given: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)


def _tissue(item: Item, shape: tuple[int, ...], numbers: tuple[int, ...], where: str) -> npt.NDArray[np.uint8] | None:
    if item.get("tissue") is None:
        return None
    where = f"{where}, tissue"
    return tissue_codes(_plane(item["tissue"], where, volumes=len(shape) == 3), shape, numbers, where)


def _anatomy(item: Item, *, axes: int) -> npt.NDArray[np.bool_] | None:
    """The mask of any size: whether it is that of the image is for the table to see."""
    if item.get("anatomy") is None:
        return None
    array = _array(item["anatomy"])
    return np.asarray((array[0] if array.ndim == axes + 1 and array.shape[0] == 1 else array) != 0)


def _told_apart(mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> bytes:
    """The mask, with its size where that is not the image's."""
    return (b"" if mask.shape == shape else f"{mask.shape}".encode()) + mask.tobytes()


def _lesion(item: Item, shape: tuple[int, ...], where: str) -> npt.NDArray[np.bool_] | None:
    if item.get("lesion") is None:
        return None
    mask = _plane(item["lesion"], f"{where}, lesion", volumes=len(shape) == 3) != 0
    if mask.shape != shape:
        raise DataError(f"{where}, lesion: expected a mask of the size of its image, {shape}, got {mask.shape}")
    return np.asarray(mask)
