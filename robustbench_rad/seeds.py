"""Randomness that does not depend on the machinery: one seed per audit, condition, draw and case.

A seed is the first eight bytes of SHA-256 over the named parts, so it is the same for any batch size, order of cases, number
of workers, shard or resumption, and on any operating system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: object) -> int:
    """Derive a 63-bit seed from any sequence of named parts.

    >>> derive_seed(7, "shift.ct.dose", 1, "case-1") == derive_seed(7, "shift.ct.dose", 1, "case-1")
    True
    >>> derive_seed("a", "bc") == derive_seed("ab", "c")
    False
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(device: torch.device | str, *parts: object) -> torch.Generator:
    """Make a generator on ``device`` seeded from ``parts``; global random state is not touched."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


def normal(shape: Sequence[int], device: torch.device | str, seeds: Sequence[int], *parts: object) -> torch.Tensor:
    """Draw standard normal noise, each case from a generator of its own.

    Args:
        shape: Shape of one case's draw.
        device: Where the draw is made; the kind of device is part of an audit's record.
        seeds: One base seed per case (``Batch.seeds``).
        parts: What the draw is for: condition id, version, name of the field.

    Returns:
        ``(len(seeds), *shape)`` float32; row i depends on ``seeds[i]`` and ``parts`` only.
    """
    import torch

    draws = [torch.randn(tuple(shape), generator=generator(device, seed, *parts), device=device) for seed in seeds]
    return torch.stack(draws)
