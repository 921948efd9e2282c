"""Another CT reconstruction kernel: sharper or softer, with the noise that goes with it.

In the plane of the slice the spectrum is multiplied by the ratio of the transfer functions,

    G(f) = min(MTF(f / k) / MTF(f), 8),      MTF(f) = exp(-ln 2 · (f / f50)ⁿ),

k the factor on f50. Signal and noise pass the same filter, as they would in the reconstruction. Where the cap takes hold the
noise would be too weak, so independent noise of the power that is missing is added, made in the projections as for a dose.

References:
    Bujila, Fransson and Poludniowski 2017, Practical approaches to approximating MTF and NPS in CT.
    Lee et al. 2019, CT image conversion among different reconstruction kernels, 10.3348/kjr.2018.0249.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.continuous import Value, case_by_case
from robustbench_rad.registry import register
from robustbench_rad.shifts import _ct_noise as physics
from robustbench_rad.shifts._continuous import NO_LEVEL, kept_where
from robustbench_rad.shifts._ct_kernels import KERNELS, Kernel, kernel_named, source_kernels, transfer
from robustbench_rad.shifts._inputs import per_case, require_hounsfield, require_physical, unclipped_spacing_mm
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._native_noise import NoiseProbe
from robustbench_rad.shifts._spectral import filtered, radial_frequency_per_mm

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State
    from robustbench_rad.continuous import AtValues

LARGEST_GAIN = 8.0
_UNIT = "× f50"
_MARGIN_PX = 32  # an impulse response has died away over this distance
_FACTORS = ("0.5", "0.7", "1.35", "1.6", "2.0")


def _factor_level(value: float | str) -> Level:
    """A level from a factor, or from two kernels: ``B30f to B50f`` is the factor between their nominal f50."""
    start, _, end = (part.strip() for part in str(value).partition(" to "))
    source, target = kernel_named(start), kernel_named(end) if end else None
    if source is not None and target is not None:
        return Level(name=f"{start} to {end}", value=target.f50_per_mm / source.f50_per_mm, unit="")
    if end:
        unknown = start if source is None else end
        raise ValueError(f"expected two known kernels, e.g. 'B30f to B50f', got {value!r}: {unknown!r} is not known")
    factor = float(value)
    if not 0.1 <= factor <= 10.0:
        raise ValueError(f"expected a factor on f50 between 0.1 and 10, got {value}")
    return Level(name=str(value), value=factor, unit=_UNIT)


@register(
    id="shift.ct.kernel",
    version=2,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Bujila et al. 2017; Lee et al. 2019, 10.3348/kjr.2018.0249",
    unit="× f50",
)
@dataclass(frozen=True, kw_only=True)
class CtKernel(Condition):
    """A sharper or softer reconstruction kernel, in the plane of the slice.

    Attributes:
        levels: Factors on the frequencies of the source kernel: below 1 softer, above 1 sharper; 1 is the image itself. Two
            kernels stand for the factor between their nominal f50: ``B30f to B50f``, ``B30f to B70f``, ``STANDARD to LUNG``.
        source: ``auto`` (from ConvolutionKernel of the file or a declared column, else soft), ``soft``, ``medium``
            or ``sharp``.
        missing_noise: Whether to add the noise that the capped gain leaves out.
    """

    neutral: ClassVar[float | None] = 1.0

    levels: tuple[Level, ...] = tuple(_factor_level(factor) for factor in _FACTORS)
    source: str = "auto"
    missing_noise: bool = True

    def __post_init__(self) -> None:
        require_one_of(self, "source", ("auto", *KERNELS))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a factor on f50, or from two kernels, e.g. ``B30f to B50f``.

        >>> round(CtKernel.level("B30f to B70f").value, 2)
        2.35
        """
        return _factor_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Filter images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU with every level.

        Linear in the image apart from the added noise, hence differentiable. HU are never clipped; padding (below
        -1024 HU) stays as it is. A case without pixel spacing is not applicable and comes back unchanged.

        Measurements: ``source_f50_per_mm``, ``source_kernel_assumed`` (1 where the file names no known kernel); per level
        ``requested_f50_per_mm``, ``f50_per_mm`` as achieved under the cap (NaN when it lies beyond what the pixels can
        hold), and ``missing_noise_sd_hu`` (NaN where the image's own noise cannot be read, then none is added).

        Raises:
            DataError: Not HU in physical space, or of another shape.
            ImageError: NaN pixels, or values scaled to [0, 1].
        """
        del query, state
        self._refuse(batch)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def continuous(self, batch: Batch) -> AtValues:
        """See :class:`robustbench_rad.continuous.Continuous`; the noise that the capped gain leaves out has no slope."""
        self._refuse(batch)
        spacing, reason = unclipped_spacing_mm(batch)
        applicable = spacing.isfinite()
        kernels, _ = source_kernels(self.source, batch)
        spacing = spacing.nan_to_num(1.0)
        stream = (self.id, self.version)

        def at(values: Tensor) -> Variant:
            changed = applicable & (values.detach() != 1.0)
            images = with_kernel(batch.images, spacing, kernels, factor=values)
            for row, factor in enumerate(values.tolist()):
                case = slice(row, row + 1)
                if (
                    self.missing_noise
                    and bool(changed[row])
                    and needs_noise(spacing[case], kernels[case], factor=factor)
                ):
                    alone = batch.select(torch.tensor([row], device=batch.device))
                    noise = _MissingNoise(batch=alone, spacing_mm=spacing[case], kernels=kernels[case], stream=stream)
                    images = images.index_add(0, torch.tensor([row], device=batch.device), noise.image(factor)[0])
            header = tuple(
                {"ConvolutionKernel": k.text(factor=f)} for k, f in zip(kernels, values.tolist(), strict=True)
            )
            return Variant(
                level=NO_LEVEL,
                images=kept_where(batch, images, changed),
                applicable=applicable,
                reason=reason,
                case_attributes=header,
            )

        return at

    def _refuse(self, batch: Batch) -> None:
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        spacing, reason = unclipped_spacing_mm(batch)
        applicable = spacing.isfinite()
        kernels, assumed = source_kernels(self.source, batch)
        spacing = spacing.nan_to_num(1.0)
        f50 = torch.tensor([kernel.f50_per_mm for kernel in kernels], device=batch.device)
        measurements += [
            Measurement(quantity="source_f50_per_mm", values=f50),
            Measurement(
                quantity="source_kernel_assumed", values=torch.tensor(assumed, dtype=torch.float32, device=batch.device)
            ),
        ]
        noise = _MissingNoise(batch=batch, spacing_mm=spacing, kernels=kernels, stream=(self.id, self.version))
        for level in self.levels:
            if level.value == 1.0:
                yield Variant(level=level, images=batch.images, applicable=applicable, reason=reason)
                continue
            images = with_kernel(batch.images, spacing, kernels, factor=level.value)
            added = torch.zeros_like(f50)
            if self.missing_noise and needs_noise(spacing, kernels, factor=level.value):
                extra, added = noise.image(level.value)
                images = images + extra
            images = torch.where(per_case(applicable, images), images, batch.images)
            achieved = achieved_f50_per_mm(spacing, kernels, factor=level.value)
            measurements += [
                Measurement(quantity=name, values=torch.where(applicable, values, torch.nan), level=level.name)
                for name, values in (
                    ("requested_f50_per_mm", f50 * level.value),
                    ("f50_per_mm", achieved),
                    ("missing_noise_sd_hu", added),
                )
            ]
            named = tuple({"ConvolutionKernel": kernel.text(factor=level.value)} for kernel in kernels)
            yield Variant(level=level, images=images, applicable=applicable, reason=reason, case_attributes=named)


def gain(frequency_per_mm: Tensor, kernels: Sequence[Kernel], *, factor: Value) -> Tensor:
    """Ratio of the transfer functions, at most :data:`LARGEST_GAIN`, 1 at zero frequency.

    Args:
        frequency_per_mm: ``(N, …)``.
        kernels: Source kernel of every case.
        factor: k, target over source f50.

    >>> gain(torch.tensor([[0.0, 0.34, 0.68]]), [KERNELS["soft"]], factor=2.0)
    tensor([[1.0000, 1.7040, 8.0000]])
    """
    shape = (-1, *[1] * (frequency_per_mm.ndim - 1))
    f50 = frequency_per_mm.new_tensor([kernel.f50_per_mm for kernel in kernels]).reshape(shape)
    exponent = frequency_per_mm.new_tensor([kernel.stretch for kernel in kernels]).reshape(shape)
    nepers = math.log(2.0) * (frequency_per_mm / f50) ** exponent * (1.0 - factor**-exponent)
    return nepers.clamp_max(math.log(LARGEST_GAIN)).exp()


def with_kernel(images_hu: Tensor, spacing_mm: Tensor, kernels: Sequence[Kernel], *, factor: Value) -> Tensor:
    """Filter every slice from its kernel to that of ``factor`` times its f50.

    Slices are continued by reflection, so that nothing wraps around; padding counts as air and is put back.

    Args:
        images_hu: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)``.
        spacing_mm: ``(N,)``.
        kernels: N source kernels.
        factor: k, target over source f50, of all cases or ``(N,)``.

    Returns:
        Images of the same shape, in HU.
    """
    # one case at a time: a transform of several images at once rounds differently
    cases = zip(images_hu, spacing_mm, kernels, case_by_case(factor, len(images_hu)), strict=True)
    return torch.stack([_filtered_case(*case) for case in cases])


def _filtered_case(image_hu: Tensor, spacing_mm: Tensor, kernel: Kernel, factor: Value) -> Tensor:
    height, width = image_hu.shape[-2:]
    slices = image_hu.reshape(1, -1, height, width)
    reconstructed = physics.noise_support(slices.detach()[0])
    margins = [min(_MARGIN_PX, width - 1)] * 2 + [min(_MARGIN_PX, height - 1)] * 2
    wide = functional.pad(torch.where(reconstructed, slices, physics.AIR_HU), margins, mode="reflect")
    frequency = radial_frequency_per_mm((wide.shape[-2], wide.shape[-1]), spacing_mm.expand(1, 2))
    changed = filtered(wide, gain(frequency, [kernel], factor=factor))
    inner = changed[..., margins[2] : margins[2] + height, margins[0] : margins[0] + width]
    return torch.where(reconstructed, inner, slices).reshape(image_hu.shape)


def achieved_f50_per_mm(spacing_mm: Tensor, kernels: Sequence[Kernel], *, factor: float) -> Tensor:
    """Frequency ``(N,)`` at which the capped transfer function falls to 0.5; NaN beyond the pixels' Nyquist frequency.

    >>> achieved_f50_per_mm(torch.tensor([0.7, 1.4]), [KERNELS["soft"]] * 2, factor=2.0)
    tensor([0.6553,    nan])
    """
    count = 2048
    steps = torch.arange(1, count + 1, device=spacing_mm.device) / count
    frequency = 0.5 / spacing_mm[:, None] * steps
    values = transfer(kernels, frequency) * gain(frequency, kernels, factor=factor)
    below = values < 0.5
    first = below.to(torch.int8).argmax(1)
    return torch.where(below.any(1), frequency.gather(1, first[:, None])[:, 0], torch.nan)


def missing_power(frequency_per_mm: Tensor, kernels: Sequence[Kernel], *, factor: float) -> Tensor:
    """Noise power over f that the target kernel has and the capped filter leaves out, ``MTF_target² - G² MTF_source²``."""
    target = transfer(kernels, frequency_per_mm, factor=factor)
    filtered_source = gain(frequency_per_mm, kernels, factor=factor) * transfer(kernels, frequency_per_mm)
    return (target.square() - filtered_source.square()).clamp_min(0.0)


def needs_noise(spacing_mm: Tensor, kernels: Sequence[Kernel], *, factor: float) -> bool:
    """Whether more than a thousandth of the noise power is missing in any case."""
    steps = torch.linspace(0.0, 1.0, 513, device=spacing_mm.device)
    frequency = math.sqrt(0.5) / spacing_mm[:, None] * steps
    missing = (frequency * missing_power(frequency, kernels, factor=factor)).sum(1)
    whole = (frequency * transfer(kernels, frequency, factor=factor).square()).sum(1)
    return bool((missing > 1e-3 * whole).any())


@dataclass(frozen=True, kw_only=True, eq=False)
class _MissingNoise:
    """Noise made in the projections, as strong as the image's own; the levels share its draw.

    Attributes:
        batch: The images.
        spacing_mm: ``(N,)``, known.
        kernels: N source kernels.
        stream: What the draw is for.
    """

    batch: Batch
    spacing_mm: Tensor
    kernels: Sequence[Kernel]
    stream: tuple[object, ...]

    @torch.no_grad()
    def image(self, factor: float) -> tuple[Tensor, Tensor]:
        """Noise that the capped filter leaves out, in the shape of the images, and its standard deviation ``(N,)``."""
        parts = []
        for part in self._scan.one_by_one():
            window = missing_power(part.frequencies_per_mm, part.kernels, factor=factor).sqrt()
            parts.append(part.reconstruct(self._rays(part), window) * physics.noise_support(part.slices_hu))
        probes, strength = self._strength
        noise = torch.cat(parts).reshape(self._stack) * strength.nan_to_num()[:, None, None, None]
        levels = [probe.level(case) for probe, case in zip(probes, noise, strict=True)]
        deviation = torch.where(strength.isfinite(), noise.new_tensor(levels), torch.nan)
        return noise.reshape(self.batch.images.shape), deviation

    @cached_property
    def _scan(self) -> physics.Scan:
        return physics.Scan.of(self.batch, self.spacing_mm, self.kernels)

    @property
    def _stack(self) -> tuple[int, ...]:
        return len(self.batch), -1, *self.batch.images.shape[-2:]

    def _rays(self, part: physics.Scan) -> Tensor:
        """Quantum noise on every ray for one photon per ray."""
        return part.draw(*self.stream, "missing") * part.transmission().rsqrt()

    @cached_property
    def _strength(self) -> tuple[list[NoiseProbe], Tensor]:
        """Windows per case, and ``(N,)`` the factor at which the source's kernel would give the native noise."""
        cases = self._scan.slices_hu.reshape(self._stack)
        probes = [NoiseProbe.placed(*case) for case in zip(cases, self.spacing_mm.tolist(), strict=True)]
        own = torch.cat([part.reconstruct(self._rays(part)) for part in self._scan.one_by_one()]).reshape(self._stack)
        ratios = [
            probe.level(case) / probe.level(noise) if probe.soft_tissue else math.nan
            for probe, case, noise in zip(probes, cases, own, strict=True)
        ]
        return probes, own.new_tensor(ratios)
