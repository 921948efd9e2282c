"""From a row of the manifest to a physical image with its masks, and to the hash of what is stored."""

from __future__ import annotations

import hashlib
from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np

from robustbench_rad.anatomy_providers import NamedProvider
from robustbench_rad.atlas import Atlas
from robustbench_rad.cases.records import Case, CaseRecord, Reader

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.data.images import PhysicalImage
    from robustbench_rad.misfits import Misfit


def decode(
    record: CaseRecord, reader: Reader, provider: NamedProvider | None = None, atlas: Atlas | None = None
) -> Case:
    """Decode one case; an atlas is the mask of every case, whatever mask an item of a data set brings.

    Raises:
        ImageError: The image is unreadable, of another unit, or outside its declared range.
        DataError: A mask of lesions, a map or a box does not fit the image, or a mask is unreadable. A mask of the
            anatomy of another size is left out, and said in ``misfit``.
        MissingExtraError: The format needs an optional package.
    """
    import torch

    from robustbench_rad.misfits import Misfit

    image = reader.read(record)
    pixels = torch.from_numpy(np.ascontiguousarray(image.pixels))[None]
    anatomy = atlas.on(tuple(pixels.shape[1:])) if atlas else _anatomy(record, pixels, image, provider)
    return Case(
        record=record,
        image=pixels,
        unit=image.unit,
        stored_bits=image.stored_bits,
        spacing_mm=record.spacing_mm or image.spacing_mm,
        anatomy=None if isinstance(anatomy, Misfit) else anatomy,
        anatomy_at_input=None if atlas is None or isinstance(anatomy, Misfit) else atlas.at_input,
        misfit=anatomy if isinstance(anatomy, Misfit) else None,
        lesion=_lesion(record, pixels, image),
        tissue=_tissue(record, pixels, image),
        burned_in=image.burned_in,
        attributes=image.attributes,
        zero_signal=image.zero_signal,
    )


def _anatomy(
    record: CaseRecord, pixels: Tensor, image: PhysicalImage, provider: NamedProvider | None
) -> Tensor | Misfit | None:
    from robustbench_rad.masks import mask_of, read_mask

    shape = tuple(pixels.shape[1:])
    if record.anatomy is not None:
        return read_mask(record.anatomy, shape)
    if image.anatomy is not None:
        return mask_of(image.anatomy, shape)
    if provider is None:
        return None
    spacing = record.spacing_mm or image.spacing_mm
    return provider.mask(pixels, unit=image.unit, spacing_mm=spacing, reference=record.reference)


def _lesion(record: CaseRecord, pixels: Tensor, image: PhysicalImage) -> Tensor | None:
    import torch

    from robustbench_rad.masks import box_mask, load_mask

    shape = tuple(pixels.shape[1:])
    if record.lesion is not None:
        return load_mask(record.lesion, shape)
    if record.boxes is not None:
        return box_mask(record.boxes, shape)
    return None if image.lesion is None else torch.from_numpy(np.ascontiguousarray(image.lesion))[None]


def _tissue(record: CaseRecord, pixels: Tensor, image: PhysicalImage) -> Tensor | None:
    import torch

    from robustbench_rad.data.tissue import load_tissue

    codes = image.tissue
    if record.tissue is not None:
        codes = load_tissue(record.tissue.path, tuple(pixels.shape[1:]), record.tissue.numbers)
    return None if codes is None else torch.from_numpy(np.ascontiguousarray(codes))[None]


def stored_sha256(record: CaseRecord, reader: Reader) -> str:
    """SHA-256 over the stored image, mask, lesions and map of a case."""
    from robustbench_rad.data.files import file_sha256

    image = reader.fingerprint(record)
    mask = file_sha256(record.anatomy) if record.anatomy else ""
    lesion = f" lesion {file_sha256(record.lesion)}" if record.lesion else ""
    boxes = "" if record.boxes is None else f" boxes {[astuple(box) for box in record.boxes]}"
    map_ = record.tissue
    tissue = f" tissue {map_.numbers} {file_sha256(map_.path)}" if map_ else ""
    return hashlib.sha256(f"{image}{mask}{lesion}{boxes}{tissue}".encode()).hexdigest()
