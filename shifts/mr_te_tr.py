"""Another echo or repetition time in MR: the tissues change their brightness, each by its own relaxation.

    S = ρ (1 - e^(-TR/T1)) e^(-TE/T2)

With a map of the tissues every pixel is scaled by the ratio of its class. Without one the image is changed by a monotone map
of three brightnesses, see :mod:`robustbench_rad.shifts._mr_contrast`. The mean of the foreground stays, as prescan would see
to it.

References:
    Stanisz et al. 2005, T1, T2 relaxation and magnetization transfer in tissue at 3T, 10.1002/mrm.20605.
    Rooney et al. 2007, 10.1002/mrm.21122.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._header import number_text
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._mr_inputs import MrShift, header_numbers
from robustbench_rad.shifts._mr_weighting import NO_CONTRAST, nodes_of, reweighted, weightings

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_KEYWORDS = {"TE": "EchoTime", "TR": "RepetitionTime"}
_FIELDS = {"TE": "echo_ms", "TR": "repetition_ms"}


@register(
    id="shift.mr.te-tr",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("MR",),
    reference="Stanisz et al. 2005, 10.1002/mrm.20605; Rooney et al. 2007, 10.1002/mrm.21122",
    unit="× TE or TR",
)
@dataclass(frozen=True, kw_only=True)
class MrTeTr(MrShift):
    """A longer or shorter echo or repetition time, in brain images.

    Approximate: relaxation times are those of the literature, T1 of the field strength, T2 independent of it. Where the plan
    gives a map of the tissues (``[data] tissue``) every class follows the signal equation, and what is of no class (scalp,
    skull) stays as it is; else three brightnesses stand for fluid, grey and white matter. A case with neither is not
    applicable.

    Measurements per level: ``time_factor_requested``, ``contrast_ratio`` (brightest over middle tissue, after over before),
    ``contrast_inverted`` (1 where tissues change their order; without a map the image stops at equal brightness),
    ``classified_share`` (of the foreground, 0 without a map) and ``timing_assumed`` (1 where the header does not give field,
    TR and TE).

    Attributes:
        levels: Factors on the time, mildest first; 1 is the image itself.
        time: ``TE`` or ``TR``.
        repetition_time_ms: TR where the header does not say.
        echo_time_ms: TE where the header does not say.
        tesla: Field strength where the header does not say.
    """

    unit = "× TE or TR"
    neutral = 1.0
    lowest = 0.1
    highest = 10.0

    levels: tuple[Level, ...] = ladder("× TE or TR", "0.9", "1.1", "0.75", "1.25", "0.5", "1.5")
    time: str = "TE"
    repetition_time_ms: float = 500.0
    echo_time_ms: float = 15.0
    tesla: float = 3.0

    def __post_init__(self) -> None:
        require_one_of(self, "time", tuple(_FIELDS))
        require_positive(self, ("repetition_time_ms", "echo_time_ms", "tesla"))

    def prepare(self, batch: Batch) -> Alter:
        """Read the weighting and the tissues of every case."""
        sources, assumed = weightings(
            batch, tesla=self.tesla, repetition_ms=self.repetition_time_ms, echo_ms=self.echo_time_ms
        )
        nodes, field, keyword = nodes_of(batch), _FIELDS[self.time], _KEYWORDS[self.time]
        said = header_numbers(batch, keyword)

        def alter(factor: float) -> Change:
            targets = [replace(source, **{field: getattr(source, field) * factor}) for source in sources]
            images, possible, contrast = reweighted(batch, nodes, sources, targets)
            texts = [{keyword: number_text(ms * factor)} if math.isfinite(ms) else {} for ms in said]
            return Change(
                images=images,
                measured={
                    "time_factor_requested": torch.full_like(assumed, factor),
                    **contrast,
                    "timing_assumed": assumed,
                },
                applicable=possible,
                reason=NO_CONTRAST,
                case_attributes=tuple(texts),
            )

        return alter
