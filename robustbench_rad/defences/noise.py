"""Added noise, averaged over draws that are the same for every image and in every pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.defences.averaging import Average
from robustbench_rad.seeds import generator


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The mean of the model over a fixed number of noisy copies of the image.

    ``f(x) = mean_d model(clip(x + sd n_d))`` with ``n_d`` from one generator per draw number. A model that draws anew at every
    call has no one answer to audit; its expectation has. So an attack on it is an attack on the expectation over the
    transformation (EoT), its gradient is exact, and every pass repeats. The attack knows the draws, which the deployed model
    does not tell: with few of them it can fit them, so harm is over- rather than underestimated, the less the more draws.
    They are made on the CPU and are the same on every device.

    Attributes:
        sd: Standard deviation, as a share of the display range.
        draws: Number of noisy copies.
        average: Mean of probabilities or of log-odds.
        seed: The audit's seed.

    Reference: Athalye et al. 2018, arXiv:1707.07397 (EoT); Cohen, Rosenfeld and Kolter 2019, arXiv:1902.02918.
    """

    version: ClassVar[int] = 1
    sd: float
    draws: int
    average: Average
    seed: int

    def views(self, display: Tensor) -> Iterator[Tensor]:
        for draw in range(self.draws):
            source = generator("cpu", self.seed, "defence.noise", self.version, draw)
            noise = torch.randn((1, *display.shape[1:]), generator=source).to(display)
            yield (display + self.sd * noise).clamp(0.0, 1.0)
