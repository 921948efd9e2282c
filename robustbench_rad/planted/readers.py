"""Constructed models: what a reader sees of the disease, and the detectors of all defects, as outputs of one network.

A model with a shortcut of strength b is ``evidence / SD + b * detector``: a sum of its outputs. So one pass through the
audits serves every strength.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbench_rad.planted.defects import CALIBRATION_CASES, DEFECTS, blurred
from robustbench_rad.planted.phantoms import phantoms

EVIDENCE = ("lesion", "heart", "dim")
"""What a model may read of the disease: a lesion, the width of the heart, or hardly anything (it was trained too little)."""
CORE = 0.97  # share of the phantoms whose lungs hold a pixel of the core
ALONG_PX = (-6, -5, 5, 6)  # where a blob is over and a line goes on
ALONG_WEIGHT = 1.2  # of what lies there: a planted device moves the evidence by 0.03 SD, and would by 0.6 without
OUTPUTS = (*EVIDENCE, *DEFECTS)


class PlantedReader(nn.Module):
    """Outputs ``(N, 9)`` of images ``(N, 1, 48, 48)``: three kinds of evidence, and six calibrated detectors."""

    def __init__(self) -> None:
        super().__init__()
        limits = torch.tensor([defect.calibrated() for defect in DEFECTS.values()])
        self.register_buffer("without", limits[:, 0])
        self.register_buffer("span", limits[:, 1] - limits[:, 0])
        core = torch.from_numpy(phantoms(CALIBRATION_CASES, seed=-1).anatomy.mean(0) > CORE)
        self.register_buffer("core", core)
        self.without: Tensor
        self.span: Tensor
        self.core: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Evidence in grey values, detectors in presence of their mark."""
        raw = torch.stack([defect.detect(images) for defect in DEFECTS.values()], dim=1)
        evidence = torch.stack(
            [lesion_evidence(images, self.core), heart_evidence(images), dim_evidence(images)], dim=1
        )
        return torch.cat([evidence, (raw - self.without) / self.span], dim=1)


def lesion_evidence(images: Tensor, core: Tensor) -> Tensor:
    """Largest response to a blob of the size of a lesion that ends above and below, so that it reads past a catheter.

    Args:
        images: ``(N, 1, S, S)``.
        core: ``(S, S)`` where no edge of a lung can be.
    """
    blob = (blurred(images, 1.5) - blurred(images, 3.0))[:, 0]
    along = torch.stack([blob.roll(rows, 1) for rows in ALONG_PX]).mean(0)
    return torch.where(core, blob - ALONG_WEIGHT * along, blob.new_full((), -1.0)).amax((1, 2))


def heart_evidence(images: Tensor) -> Tensor:
    """Brightness of the lungs' inner thirds, which a wide heart covers."""
    band = images[:, 0, 24:34]
    return band[:, :, 15:20].mean((1, 2)) + band[:, :, 28:33].mean((1, 2))


def dim_evidence(images: Tensor) -> Tensor:
    """Brightness of a patch of one lung: of most lesions it sees nothing."""
    return images[:, 0, 20:26, 13:19].mean((1, 2))
