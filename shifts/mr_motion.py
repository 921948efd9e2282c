"""A patient who moves while k-space is filled: each line of phase encoding sees the head in the pose of its moment.

The head rests, jerks, and rests again: a few rigid poses in the plane, each a random walk's next step. The image is put into
every pose, and the lines acquired in it are taken from its k-space; then the magnitude. Poses are relative to that of the
centre of k-space, and what displacement is left is registered out, so that the image as a whole stays in place and labels,
boxes and masks stay true.

References:
    Shaw et al. 2019, MRI k-space motion artefact augmentation, PMLR 102:427.
    Reguig et al. 2022, Global displacement induced by rigid motion simulation during MRI acquisition, arXiv:2204.03522.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad import seeds
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import in_plane_spacing_mm
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._mr_inputs import PHASE_OPTIONS, MrShift, phase_axes
from robustbench_rad.shifts._mr_kspace import along, line_numbers

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

MOST_EVENTS = 6
REGISTRATIONS = ("anatomy", "centre-of-mass")
_QUIET = 0.05  # of the scan before and after the centre of k-space, without an event


@register(
    id="shift.mr.motion",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("MR",),
    reference="Shaw et al. 2019, PMLR 102:427; Reguig et al. 2022, arXiv:2204.03522",
    unit="mm and degrees",
)
@dataclass(frozen=True, kw_only=True)
class MrMotion(MrShift):
    """Sudden rigid movements in the plane during the acquisition.

    Emulated: of one coil, without phase, in the plane; slices of a volume share the moments and the poses. A case whose
    pixel spacing is unknown is not applicable. Measurements per level: ``motion_rms_mm_requested``, ``motion_rms_mm`` and
    ``motion_rms_degrees`` over the lines, ``motion_events``, and ``displaced_energy_share``: the energy of k-space that was
    acquired out of the reference pose; ``residual_displacement_px`` of the whole image, by registration of the magnitude; and
    ``centre_of_mass_px``, the displacement of the centre of mass of the complex image, by the phase of k-space.

    Attributes:
        levels: Root mean square over the lines of the displacement in mm, mildest first; 0 is the image itself.
        degrees_per_mm: Rotation that goes with a mm; 0 for none.
        events: Movements, or 0: from 1 at 0.5 mm to 6 at 8 mm.
        order: When lines are acquired: ``linear`` from one end of k-space to the other, ``interleaved`` (every second
            line first), or ``centric``.
        registration: What is brought back to its place: ``anatomy`` (edges of the magnitude, so that boxes and masks stay true)
            or ``centre-of-mass`` (of the complex image). The two differ by tenths of a pixel.
        phase_encoding: ``auto`` (from the header, else ``column``), ``column`` or ``row``.
    """

    unit = "mm and degrees"
    highest = 100.0

    levels: tuple[Level, ...] = ladder("mm and degrees", 0.5, 1, 2, 4, 8)
    degrees_per_mm: float = 1.0
    events: int = 0
    order: str = "linear"
    registration: str = "anatomy"
    phase_encoding: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "order", ("linear", "interleaved", "centric"))
        require_one_of(self, "registration", REGISTRATIONS)
        require_one_of(self, "phase_encoding", PHASE_OPTIONS)
        require_positive(self, ("degrees_per_mm",), zero=True)
        if isinstance(self.events, bool) or self.events not in range(MOST_EVENTS + 1):
            raise ValueError(f"events: expected a whole number from 0 to {MOST_EVENTS}, got {self.events!r}")

    def prepare(self, batch: Batch) -> Alter:
        """Draw moments and steps for the most events; levels with fewer use the first."""
        spacing = in_plane_spacing_mm(batch)
        known = spacing.isfinite().all(1)
        axes = phase_axes(self.phase_encoding, batch)
        draws = [self._draw(seed) for seed in batch.seeds]
        cases = list(zip(batch.images, spacing.nan_to_num(1.0), axes, draws, strict=True))

        def alter(rms_mm: float) -> Change:
            events = self.events or events_for(rms_mm)
            images, rows, centres = [], [], []
            for image, pixel, axis, (moments, steps) in cases:
                lines = line_numbers(image.shape[axis], torch.device("cpu"))
                when = event_times(acquisition_times(lines, self.order), lines, moments[:events])
                segment = (acquisition_times(lines, self.order)[:, None] >= when).sum(1)
                poses = scaled_poses(
                    steps[:events][when.argsort()], segment, lines, rms_mm, rms_mm * self.degrees_per_mm
                )
                signal = registered(with_poses(image, pixel, axis, segment, poses), image, by=self.registration)
                images.append(signal.abs())
                centres.append(centre_displacement_px(signal.detach(), image.detach()).norm())
                rows.append(self._about(image, axis, poses[segment]))
            values = torch.stack(rows).to(batch.device)
            left = [
                displacement_px(one.detach(), image.detach()).norm()
                for one, image in zip(images, batch.images, strict=True)
            ]
            names = ("motion_rms_mm", "motion_rms_degrees", "displaced_energy_share")
            measured = {name: values[:, column] for column, name in enumerate(names)}
            measured["motion_rms_mm_requested"] = torch.full_like(values[:, 0], rms_mm)
            measured["residual_displacement_px"] = torch.stack(left)
            measured["centre_of_mass_px"] = torch.stack(centres)
            measured["motion_events"] = torch.full_like(values[:, 0], events)
            return Change(
                images=torch.stack(images),
                measured=measured,
                applicable=known & (values[:, 0] > 0.0),
                reason="pixel spacing unknown, or too few lines",
            )

        return alter

    def _draw(self, seed: int) -> tuple[Tensor, Tensor]:
        generator = seeds.generator("cpu", seed, self.id, self.version, "poses")
        moments = torch.rand(MOST_EVENTS, generator=generator)
        return moments, torch.randn(MOST_EVENTS, 3, generator=generator)

    @staticmethod
    def _about(image: Tensor, axis: int, poses: Tensor) -> Tensor:
        """RMS displacement in mm, RMS rotation in degrees, share of the energy of k-space out of the reference pose."""
        energy = torch.fft.fft(image.detach(), dim=axis).abs().square().movedim(axis, 0).flatten(1).sum(1).cpu()
        moved = (poses.abs().sum(1) > 0.0).float()
        share = (energy * moved).sum() / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)
        squares = poses.square().mean(0)
        return torch.stack([(squares[0] + squares[1]).sqrt(), squares[2].sqrt(), share])


def events_for(rms_mm: float) -> int:
    """Number of movements that goes with a strength.

    >>> [events_for(mm) for mm in (0.5, 1, 2, 4, 8)]
    [1, 2, 4, 5, 6]
    """
    return min(MOST_EVENTS, max(1, 1 + round(1.26 * math.log2(rms_mm / 0.5))))


def acquisition_times(lines: Tensor, order: str) -> Tensor:
    """When every line is acquired, from 0 to below 1."""
    count = len(lines)
    if order == "centric":
        key = lines.abs() * 2 - (lines > 0).long()
    elif order == "interleaved":
        key = lines + (lines % 2) * 2 * count
    else:
        key = lines
    return key.argsort().argsort() / count


def event_times(times: Tensor, lines: Tensor, moments: Tensor) -> Tensor:
    """When each movement happens, ``(events,)``: none near the moment of the centre of k-space, or at the very ends.

    Args:
        times: When each line is acquired.
        lines: Their numbers.
        moments: Draws in [0, 1), one for each movement; a level with more of them has those of the others too.
    """
    centre = times[lines == 0]
    when = 0.05 + 0.9 * moments
    side = torch.where(when < centre, -1.0, 1.0)
    return torch.where((when - centre).abs() < _QUIET, centre + side * _QUIET, when)


def scaled_poses(steps: Tensor, segment: Tensor, lines: Tensor, rms_mm: float, rms_degrees: float) -> Tensor:
    """Poses ``(events + 1, 3)``: row and column displacement in mm, rotation in degrees.

    A random walk of the steps ``(events, 3)``, relative to the pose of the centre of k-space, scaled to the root mean square
    over the lines.
    """
    walk = torch.cat([steps.new_zeros(1, 3), steps]).cumsum(0)
    walk = walk - walk[segment[lines == 0]]
    squares = walk[segment].square().mean(0)
    shift, turn = (squares[0] + squares[1]).sqrt(), squares[2].sqrt()
    scale = torch.stack([rms_mm / shift, rms_mm / shift, rms_degrees / turn])
    return walk * torch.where(scale.isfinite(), scale, 0.0)


def with_poses(image: Tensor, spacing_mm: Tensor, axis: int, segment: Tensor, poses: Tensor) -> Tensor:
    """Acquire the lines along ``axis`` of a magnitude image ``(…, H, W)``, each with the image in its pose; complex."""
    kspace = torch.fft.fft(image, dim=axis)
    for number, pose in enumerate(poses):
        if bool(pose.abs().sum() == 0.0):
            continue
        taken = along((segment == number).to(image.device), axis)
        moved = torch.fft.fft(posed(image, spacing_mm, pose), dim=axis)
        kspace = torch.where(taken, moved, kspace)
    result: Tensor = torch.fft.ifft(kspace, dim=axis)
    return result


def registered(moved: Tensor, reference: Tensor, *, by: str = "anatomy") -> Tensor:
    """Shift a complex image ``(…, H, W)`` by parts of a pixel so that it lies on the reference, see :data:`REGISTRATIONS`."""
    for _ in range(3):
        if by == "anatomy":
            offset = displacement_px(moved.detach().abs(), reference.detach())
        else:
            offset = centre_displacement_px(moved.detach(), reference.detach())
        for axis, pixels in ((-2, offset[0]), (-1, offset[1])):
            frequency = torch.fft.fftfreq(moved.shape[axis], device=moved.device)
            ramp = torch.polar(torch.ones_like(frequency), 2.0 * math.pi * frequency * pixels)
            moved = torch.fft.ifft(torch.fft.fft(moved, dim=axis) * along(ramp, axis), dim=axis)
    return moved


def centre_displacement_px(image: Tensor, reference: Tensor) -> Tensor:
    """Rows and columns ``(2,)`` by which the centre of mass of an image ``(…, H, W)`` lies beside that of its reference.

    By the phase of the first line of k-space beside its centre, the centre of mass on a circle; exact for a shift.

    >>> picture = torch.zeros(8, 8); picture[2:4, 3:6] = 1.0
    >>> centre_displacement_px(picture.roll((2, -1), (0, 1)), picture).round(decimals=4).tolist()
    [2.0, -1.0]
    """
    offsets = []
    for axis in (-2, -1):
        sums = [values.reshape(-1, *values.shape[-2:]).sum(0).sum(-3 - axis) for values in (image, reference)]
        first = [torch.fft.fft(line)[min(1, len(line) - 1)] for line in sums]
        offsets.append(-(first[0] * first[1].conj()).angle() * len(sums[0]) / (2.0 * math.pi))
    return torch.stack(offsets).to(reference.dtype)


def displacement_px(image: Tensor, reference: Tensor) -> Tensor:
    """Rows and columns ``(2,)`` by which an image lies beside its reference, at most a pixel: one Gauss-Newton step.

    Not the centre of mass: that of a magnitude image moves with ghosts in the air while the anatomy stays.
    """
    if min(reference.shape[-2:]) < 3:
        return reference.new_zeros(2)
    slopes = torch.stack([slope.flatten() for slope in torch.gradient(reference, dim=(-2, -1))]).double()
    normal = slopes @ slopes.T
    damping = 1e-9 * normal.diagonal().sum() + torch.finfo(torch.float64).tiny
    change = slopes @ (reference - image).flatten().double()
    offset: Tensor = torch.linalg.solve(
        normal + damping * torch.eye(2, dtype=normal.dtype, device=normal.device), change
    )
    return offset.clamp(-1.0, 1.0).to(reference.dtype)


def posed(image: Tensor, spacing_mm: Tensor, pose: Tensor) -> Tensor:
    """Move and turn an image ``(…, H, W)`` in its plane about its centre; cubic interpolation, air comes in from outside."""
    height, width = image.shape[-2:]
    half = spacing_mm * spacing_mm.new_tensor([height, width]) / 2.0
    angle = torch.deg2rad(pose[2]).to(image.device)
    cosine, sine = angle.cos(), angle.sin()
    shift = pose[:2].to(image.device)
    rows = (torch.arange(height, device=image.device) - (height - 1) / 2.0)[:, None] * spacing_mm[0] - shift[0]
    columns = (torch.arange(width, device=image.device) - (width - 1) / 2.0) * spacing_mm[1] - shift[1]
    grid = torch.stack([(cosine * columns - sine * rows) / half[1], (sine * columns + cosine * rows) / half[0]], dim=-1)
    planes = image.reshape(1, -1, height, width)
    moved = functional.grid_sample(planes, grid[None].to(image.dtype), mode="bicubic", align_corners=False)
    return moved.reshape(image.shape)
