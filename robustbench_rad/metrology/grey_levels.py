"""How many grey levels an image uses: the bit depth it has, whatever its container promises."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robustbench_rad.errors import DataError


def grey_levels_in_use(stored: npt.ArrayLike) -> int:
    """Number of distinct stored values.

    Raises:
        DataError: Not integers: floats have no grey levels.
    """
    values = np.asarray(stored)
    if values.dtype.kind not in "ui":
        raise DataError(f"grey levels: expected stored integers, got {values.dtype}")
    return len(np.unique(values))


def bits_in_use(stored: npt.ArrayLike) -> int:
    """Bits that the distinct stored values need, ``⌈log₂ n⌉``.

    An image of 256 levels that was stretched over 16 bits has 8.

    >>> bits_in_use(np.arange(256, dtype=np.uint16) * 257)
    8
    """
    return bits_of(grey_levels_in_use(stored))


def bits_of(levels: int) -> int:
    """Bits that a number of grey levels needs, at least one."""
    return max(1, (levels - 1).bit_length())
