"""The grey JPEG of libjpeg in whole numbers, batched: what a decoder shows, bit for bit, without a byte being coded.

Entropy coding loses nothing, so encoding and decoding an image is: blocks of 8 × 8, cosine transform, division by a table,
rounding, and back. Whole numbers make it the same on every device and in a batch of any size; a float transform would
let one coefficient in a thousand images fall on the other side of a rounding.

The transform is the accurate integer one of libjpeg (``jfdctint.c``, ``jidctint.c``), the default of Pillow and OpenCV.

References: Loeffler, Ligtenberg and Moschytz 1989, doi:10.1109/ICASSP.1989.266596; ITU-T T.81 (1992), Annex K, table K.1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_BITS, _FIRST = 13, 2  # fraction bits of the constants, and those kept between the two passes


def quantisation_table(quality: int) -> list[list[int]]:
    """Steps ``(8, 8)`` of the luminance coefficients at a quality from 1 to 100, as libjpeg scales them.

    >>> quantisation_table(50) == [list(row) for row in LUMINANCE]
    True
    >>> quantisation_table(75)[0]
    [8, 6, 5, 8, 12, 20, 26, 31]
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [[min(max((step * scale + 50) // 100, 1), 255) for step in row] for row in LUMINANCE]


def decoded_jpeg(grey: Tensor, quality: int) -> Tensor:
    """Grey levels as they come back from a baseline JPEG.

    Args:
        grey: ``(N, H, W)`` int32 from 0 to 255, of any size; the last row and column are repeated to whole blocks.
        quality: From 1 to 100.

    Returns:
        ``(N, H, W)`` int32 from 0 to 255.
    """
    height, width = grey.shape[1:]
    padded = functional.pad(
        grey[:, None].double(), (0, -width % SIDE, 0, -height % SIDE), mode="replicate"
    ).int()  # replication is not implemented for whole numbers; doubles hold them exactly
    down, across = padded.shape[2] // SIDE, padded.shape[3] // SIDE
    blocks = padded.reshape(len(grey), down, SIDE, across, SIDE).transpose(2, 3)
    table = torch.tensor(quantisation_table(quality), dtype=torch.int32, device=grey.device)
    restored = _inverse(_quantised(_forward(blocks - 128), table) * table)
    planes = restored.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return planes[:, :height, :width]


def _quantised(coefficients: Tensor, table: Tensor) -> Tensor:
    """Nearest multiple of the step, halves away from 0; the transform scales coefficients by 8."""
    divisor = table * 8
    return coefficients.sign() * ((coefficients.abs() + divisor // 2) // divisor)


def _forward(blocks: Tensor) -> Tensor:
    """Cosine transform of rows, then of columns."""
    rows = _forward_1d(list(blocks.unbind(-1)), even=-_FIRST, odd=_BITS - _FIRST)
    columns = torch.stack(rows, -1).unbind(-2)
    return torch.stack(_forward_1d(list(columns), even=_FIRST, odd=_BITS + _FIRST), -2)


def _inverse(coefficients: Tensor) -> Tensor:
    """Back: columns, then rows, then the range of a grey level."""
    columns = _inverse_1d(list(coefficients.unbind(-2)), bits=_BITS - _FIRST)
    rows = torch.stack(columns, -2).unbind(-1)
    return (torch.stack(_inverse_1d(list(rows), bits=_BITS + _FIRST + 3), -1) + 128).clamp(0, 255)


def _forward_1d(d: list[Tensor], *, even: int, odd: int) -> list[Tensor]:
    sums = [d[i] + d[7 - i] for i in range(4)]
    differences = [d[7 - i] - d[i] for i in range(4, 8)]  # d3-d4, d2-d5, d1-d6, d0-d7 read from the inside out
    outer, inner = sums[0] + sums[3], sums[1] + sums[2]
    high, low = _rotated(sums[1] - sums[2], sums[0] - sums[3])
    o7, o5, o3, o1 = (_shifted(value, odd) for value in _odd_part(differences))
    return [
        _shifted(outer + inner, even),
        o1,
        _shifted(low, odd),
        o3,
        _shifted(outer - inner, even),
        o5,
        _shifted(high, odd),
        o7,
    ]


def _inverse_1d(c: list[Tensor], *, bits: int) -> list[Tensor]:
    high, low = _rotated(c[6], c[2])
    plus, minus = (c[0] + c[4]) << _BITS, (c[0] - c[4]) << _BITS
    even = [plus + low, minus + high, minus - high, plus - low]
    odd = _odd_part([c[7], c[5], c[3], c[1]])[::-1]
    first = [_shifted(a + b, bits) for a, b in zip(even, odd, strict=True)]
    return first + [_shifted(a - b, bits) for a, b in zip(even[::-1], odd[::-1], strict=True)]


def _rotated(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation of the even part: ``sqrt(2) (a, b)`` turned by 6π/16, scaled by ``2^13``."""
    shared = (a + b) * 4433
    return shared - a * 15137, shared + b * 6270


def _odd_part(t: list[Tensor]) -> list[Tensor]:
    """The rotations that forward and inverse transform share, scaled by ``2^13``."""
    z1, z2, z3, z4 = t[0] + t[3], t[1] + t[2], t[0] + t[2], t[1] + t[3]
    z5 = (z3 + z4) * 9633
    z1, z2, z3, z4 = z1 * -7373, z2 * -20995, z3 * -16069 + z5, z4 * -3196 + z5
    return [t[0] * 2446 + z1 + z3, t[1] * 16819 + z2 + z4, t[2] * 25172 + z2 + z3, t[3] * 12299 + z1 + z4]


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Divide by ``2^bits`` with rounding; multiply where ``bits`` is negative."""
    return value << -bits if bits < 0 else (value + (1 << (bits - 1))) >> bits
