"""How a transform of another library is called on one image: its array layout, its generators, its way of giving back.

Every caller takes the transform, one image ``(H, W)`` or ``(D, H, W)`` float32, its spacing and a seed, and gives an array
back.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from robustbench_rad.errors import DataError
from robustbench_rad.shifts._albumentations import refuse_successor

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float32]
Call = Callable[[Any, Floats, "Sequence[float]", int], Any]
SEED_LIMIT = 2**32  # NumPy's global generator takes no more


def library_of(transform: object) -> str:
    """Whose a transform is: the library of its class, or ``function``."""
    for kind in type(transform).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in CALLS:
            return package
    return "function"


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch for the block, and put them back after it."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed % SEED_LIMIT)
            torch.default_generator.manual_seed(seed)  # manual_seed of torch would seed every GPU too
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _albumentations(transform: Any, image: Floats, spacing_mm: Sequence[float], seed: int) -> Any:  # noqa: ANN401
    del spacing_mm
    refuse_successor()
    if image.ndim != 2:
        raise DataError("albumentations: expected a plane, got a volume")
    if hasattr(transform, "set_random_seed"):
        transform.set_random_seed(seed % SEED_LIMIT)
    return transform(image=image)["image"]


def _torchio(transform: Any, image: Floats, spacing_mm: Sequence[float], seed: int) -> Any:  # noqa: ANN401
    """TorchIO orders its axes from left to right, from back to front, from foot to head: column, row, slice."""
    del seed
    torchio = importlib.import_module("torchio")
    volume = image if image.ndim == 3 else image[None]
    sides = [side if np.isfinite(side) and side > 0 else 1.0 for side in reversed(spacing_mm)]
    affine = np.diag([*sides, *[1.0] * (4 - len(sides))])
    tensor = torch.from_numpy(volume.transpose(2, 1, 0).copy())[None]
    subject = torchio.Subject(image=torchio.ScalarImage(tensor=tensor, affine=affine))
    altered = np.asarray(transform(subject)["image"].data[0]).transpose(2, 1, 0)
    return altered if image.ndim == 3 or altered.shape[0] != 1 else altered[0]


def _monai(transform: Any, image: Floats, spacing_mm: Sequence[float], seed: int) -> Any:  # noqa: ANN401
    """MONAI takes an array with its channel first, or a dictionary of such arrays."""
    del spacing_mm
    if hasattr(transform, "set_random_state"):
        transform.set_random_state(seed=seed % SEED_LIMIT)
    given, keys = torch.from_numpy(image)[None], _keys(transform)
    try:
        if not keys:
            return np.asarray(torch.as_tensor(transform(given)))[0]
        main = _image_key(keys)
        altered = transform({key: given if key == main else torch.zeros_like(given) for key in keys})
        return np.asarray(torch.as_tensor(altered[main]))[0]
    except RuntimeError as error:  # what MONAI's Compose puts around the error of its part
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


def _keys(transform: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The keys of a dictionary transform of MONAI, or of the parts of a composition; none for array transforms."""
    if hasattr(transform, "key_iterator"):
        return tuple(str(key) for key in transform.keys)
    parts = getattr(transform, "transforms", ())
    return tuple(dict.fromkeys(key for part in parts for key in _keys(part)))


def _image_key(keys: Sequence[str]) -> str:
    """The key that holds the image: ``image``, or the only one."""
    if "image" in keys:
        return "image"
    if len(keys) == 1:
        return keys[0]
    raise DataError(
        f"monai: expected a dictionary transform of one key, or of several with 'image' among them, got {', '.join(keys)}",
        hint="Call the key of the picture 'image'; the others are given zeros.",
    )


def _function(transform: Any, image: Floats, spacing_mm: Sequence[float], seed: int) -> Any:  # noqa: ANN401
    del spacing_mm, seed
    altered = transform(image)
    return altered.detach().cpu().numpy() if isinstance(altered, torch.Tensor) else altered


CALLS: Mapping[str, Call] = {
    "albumentations": _albumentations,
    "torchio": _torchio,
    "monai": _monai,
    "function": _function,
}


def call(library: str, transform: Any, image: Floats, spacing_mm: Sequence[float], seed: int) -> Any:  # noqa: ANN401
    """Call a transform on a copy of one image."""
    return CALLS[library](transform, np.array(image, dtype=np.float32, order="C"), spacing_mm, seed)
