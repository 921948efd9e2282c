"""Pictures of saliency maps for a report's gallery; used only where the plan allows images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_rad.saliency.maps import resized

FOR = (0.95, 0.55, 0.0)  # orange: speaks for the finding; blue: against it. Told apart by every kind of colour vision.
AGAINST = (0.0, 0.45, 0.85)
STRONGEST = 0.65  # opacity of the strongest place, so that the image shows through everywhere


def overlay(display: Tensor, found: Tensor, *, signed: bool = False) -> NDArray[np.uint8]:
    """Lay a saliency map over its image: orange where it speaks for the finding, blue where against.

    Args:
        display: ``(1, H, W)`` in [0, 1].
        found: ``(h, w)`` signed map at any resolution; NaN is drawn as nothing.
        signed: Also show what speaks against the finding.

    Returns:
        ``(H, W, 3)`` red, green, blue.

    >>> overlay(torch.full((1, 2, 2), 0.5), torch.zeros(2, 2))[0, 0].tolist()
    [128, 128, 128]
    """
    strength = resized(found.detach().float().cpu().nan_to_num(0.0)[None, None], display.shape[1:])[0, 0]
    strength = strength if signed else strength.clamp_min(0.0)
    strength = strength / strength.abs().max().clamp_min(1e-12)
    colour = torch.where(strength[..., None] >= 0, torch.tensor(FOR), torch.tensor(AGAINST))
    opacity = STRONGEST * strength.abs()[..., None]
    grey = display.detach().float().cpu().clamp(0.0, 1.0)[0, :, :, None]
    mixed: NDArray[np.float32] = (grey * (1.0 - opacity) + colour * opacity).numpy()
    return np.rint(mixed * 255).astype(np.uint8)
