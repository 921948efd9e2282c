"""Lungs and heart of a frontal chest radiograph, by the segmentation network that torchxrayvision ships.

PSPNet trained on ChestX-Det (Lian et al. 2021, arXiv:2104.10326). Its weights are not part of the package: torchxrayvision
downloads them when its network is first made. Nothing is downloaded from here.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_rad.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Unit

STRUCTURES = ("Left Lung", "Right Lung", "Heart")
SIDE = 512
RANGE = 1024.0  # the network's images run from -1024 to 1024
WEIGHTS = Path("~/.torchxrayvision/models_data/pspnet_chestxray_best_model_4.pth")


def lungs_and_heart(image: Tensor, *, unit: Unit, spacing_mm: tuple[float, ...] | None) -> Tensor:
    """Mask ``(1, H, W)`` of lungs and heart.

    The darkest and the brightest pixel become -1024 and 1024; where the network gives one of the structures at least even odds
    is inside.

    Raises:
        DataError: A volume or a CT image, a flat image, or the weights have not been downloaded.
        MissingExtraError: torchxrayvision is not installed.
    """
    import torch
    from torch.nn import functional

    del spacing_mm
    if image.ndim != 3 or unit != "signal":
        raise DataError(
            f"torchxrayvision segments frontal chest radiographs, got {unit} of shape {tuple(image.shape)}",
            hint='Use provider = "hull", or masks of your own.',
        )
    low, high = float(image.min()), float(image.max())
    if not high > low:
        return torch.zeros_like(image, dtype=torch.bool)
    network, channels = _network()
    scaled = ((image - low) / (high - low) * 2 - 1) * RANGE
    resized = functional.interpolate(scaled[None], (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        odds = network(resized)[:, channels].amax(1, keepdim=True)
    back = functional.interpolate(odds, image.shape[1:], mode="bilinear", align_corners=False)
    return back[0] >= 0.0


@cache
def _network() -> tuple[Any, list[int]]:
    """The network in evaluation mode, and the channels of the structures; once per process."""
    try:
        chestx_det = import_module("torchxrayvision.baseline_models.chestx_det")
    except ImportError as error:
        raise MissingExtraError(
            "masks of lungs and heart", package="torchxrayvision", install="pip install torchxrayvision"
        ) from error
    if not WEIGHTS.expanduser().is_file():
        raise DataError(
            f"torchxrayvision: no weights at {WEIGHTS}",
            hint='Download them once: python -c "import torchxrayvision as x; x.baseline_models.chestx_det.PSPNet()"',
        )
    network = chestx_det.PSPNet().eval()
    return network, [list(network.targets).index(name) for name in STRUCTURES]
