"""Where the patient lies: the worst rotation, shift and zoom within what positioning allows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_rad.attacks._envelope import NO_SPACING, EnvelopeAttack, keep_notes, pixel_mm
from robustbench_rad.attacks._search import Front
from robustbench_rad.conditions import Batch, Level
from robustbench_rad.registry import register

ROTATIONS = {
    2: ("rotation",),
    3: ("rotation", "tilt_row", "tilt_column"),
}  # in the plane; about the row and column axes
UNSEEN = "a positive case does not say where its lesion is: the finding may have been moved out of the field of view"
SHIFTS = {2: ("row", "column"), 3: ("slice", "row", "column")}


@register(
    id="attack.spatial",
    version=1,
    space="display",
    domain="adversarial",
    unit="of the envelope",
    reference="Engstrom et al. 2019, arXiv:1712.02779",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class Spatial(EnvelopeAttack):
    """The worst rotation, shift and zoom of each case within an envelope of positioning.

    All poses of a coarse grid are tried, then the best is refined one parameter at a time with steps that are halved where
    none helps. Distances are in millimetres, so that pixels need not be square; the image turns about its centre and goes on
    beyond its edge with the edge's own value. In volumes the grid has turns about each of the three axes; the refinement
    combines them. Works without gradients. The original itself is always among the poses and is not resampled.

    A pose that takes a pixel of a known lesion out of the field of view is not tried: it would hide the finding by removing
    it. Where a positive case does not say where its lesion is, that cannot be seen, and the report says so.

    Measured of the worst pose: ``worst_rotation_degrees`` (in the plane; in volumes also ``worst_tilt_row_degrees`` and
    ``worst_tilt_column_degrees``, about the row and column axes), shifts in pixels and, where the spacing is known, in
    millimetres, ``worst_zoom``, and ``padded_share``, the share of the image that came from beyond its edge.

    Attributes:
        rotation_degrees: Largest rotation about each axis.
        shift_mm: Largest shift along each axis; pixels where the spacing is not known, and then it is said so.
        zoom: Largest change of size: 0.05 is from 0.95 to 1.05.
        refinements: Rounds of refinement, each of two poses per parameter.
        candidates: Poses scored at once; changes no result.

    >>> Spatial.from_options({"levels": [1]}).passes(findings=1)
    687.0
    """

    notes: ClassVar[tuple[str, ...]] = (
        "worst_rotation_degrees",
        "worst_tilt_row_degrees",
        "worst_tilt_column_degrees",
        *(f"worst_shift_{axis}_{unit}" for unit in ("px", "mm") for axis in ("slice", "row", "column")),
        "worst_zoom",
        "padded_share",
    )

    rotation_degrees: float = 10.0
    shift_mm: float = 5.0
    zoom: float = 0.05
    refinements: int = 20
    candidates: int = 16

    def __post_init__(self) -> None:
        """Refuse an envelope without meaning."""
        super().__post_init__()
        self.check_numbers(rotation_degrees=(0, 180), shift_mm=(0, 1000), zoom=(0, 0.9))
        self.check_counts(refinements=0, candidates=1)

    @property
    def passes_per_level(self) -> float:
        """The larger of the two grids, and the refinement of the seven parameters of a volume or the four of a plane."""
        return float(max(len(coarse_poses(axes)) - 1 + 2 * parameters(axes) * self.refinements for axes in (2, 3)))

    @property
    def planes_at_once(self) -> int:
        """The candidates, and the grids they are sampled on."""
        return 4 * max(self.candidates, 2 * parameters(3))

    def caveat(self, batch: Batch) -> str:
        """Whether millimetres are pixels, and whether a finding may have left the field of view."""
        spacing = "" if bool(pixel_mm(batch)[1].all()) else NO_SPACING
        return "; ".join(filter(None, (spacing, UNSEEN if bool(may_lose(batch).any()) else "")))

    def search(self, front: Front, level: Level) -> None:
        """All poses of the grid, then the neighbours of the best."""
        axes = front.live.centre.ndim - 2
        poses = coarse_poses(axes).to(front.live.centre)[1:]
        front.own = {
            "pose": torch.zeros(len(front), parameters(axes), device=poses.device),
            "lowest": torch.full_like(front.live.health, torch.inf),
        }
        for first in range(0, len(poses), self.candidates):
            part = poses[first : first + self.candidates]
            self._try(front, part.expand(len(front), -1, -1), level.value)
            front.compact()
            if not len(front):
                return
        front.own["step"] = torch.full((len(front), 1, 1), 0.5, device=poses.device)
        around = torch.cat([torch.eye(parameters(axes)), -torch.eye(parameters(axes))]).to(poses)
        for _ in range(self.refinements):
            own = front.own
            better = self._try(front, (own["pose"][:, None] + own["step"] * around).clamp(-1, 1), level.value)
            own["step"] = torch.where(better[:, None, None], own["step"], own["step"] / 2)
            front.compact()
            if not len(front):
                return

    def _try(self, front: Front, poses: Tensor, share: float) -> Tensor:
        """Score poses ``(L, M, p)`` in units of the envelope; go to the best where it beats the present one."""
        centre, own, before = front.live.centre, front.own, front.live.health.clone()
        spacing, known = (values[front.live.targets.case] for values in pixel_mm(front.batch))
        angles, shifts_mm, zoom = self._physical(poses * share, centre.ndim - 2)
        matrix = inverse_affine(angles, shifts_mm, zoom, spacing[:, None], centre.shape[2:])
        still = (poses == 0).all(2)
        planes, padded = resampled(centre, matrix, still)
        lost = torch.zeros_like(still)
        if front.batch.lesion is not None:
            lost = ~still & leaves_field(front.batch.lesion[front.live.targets.case], matrix)
            planes = torch.where(lost.reshape(*lost.shape, *[1] * (planes.ndim - 2)), centre[:, None], planes)
        health = front.score_candidates(planes)
        lowest, place = torch.where(health.isfinite() & ~lost, health, math.inf).min(1)
        every = torch.arange(len(front), device=place.device)
        at = (every, place)
        keep_notes(front, before, self._notes(angles[at], shifts_mm[at], zoom[at], padded[at], spacing, known))
        better = lowest < own["lowest"]
        own["lowest"] = torch.where(better, lowest, own["lowest"])
        own["pose"] = torch.where(better[:, None], poses[at], own["pose"])
        return better

    def _physical(self, poses: Tensor, axes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Degrees ``(L, M, r)``, millimetres ``(L, M, d)`` and zoom ``(L, M)``."""
        turns = len(ROTATIONS[axes])
        return (
            poses[..., :turns] * self.rotation_degrees,
            poses[..., turns:-1] * self.shift_mm,
            1 + poses[..., -1] * self.zoom,
        )

    def _notes(
        self, angles: Tensor, shifts_mm: Tensor, zoom: Tensor, padded: Tensor, spacing: Tensor, known: Tensor
    ) -> dict[str, Tensor]:
        axes = shifts_mm.shape[1]
        notes = {f"worst_{name}_degrees": angles[:, i] for i, name in enumerate(ROTATIONS[axes])}
        for i, axis in enumerate(SHIFTS[axes]):
            notes[f"worst_shift_{axis}_px"] = shifts_mm[:, i] / spacing[:, i]
            notes[f"worst_shift_{axis}_mm"] = torch.where(known, shifts_mm[:, i], torch.nan)
        return {**notes, "worst_zoom": zoom, "padded_share": padded}


def parameters(axes: int) -> int:
    """Parameters of a pose: rotations, shifts, zoom.

    >>> parameters(2), parameters(3)
    (4, 7)
    """
    return len(ROTATIONS[axes]) + axes + 1


def coarse_poses(axes: int) -> Tensor:
    """The grid ``(P, p)`` in units of the envelope: rotations, shifts, zoom; the pose that changes nothing comes first.

    >>> [len(coarse_poses(axes)) for axes in (2, 3)]
    [525, 405]
    """
    ends, five = (-1.0, 0.0, 1.0), (-1.0, -0.5, 0.0, 0.5, 1.0)
    poses: list[tuple[float, ...]]
    if axes == 2:
        seven = tuple(i / 3 for i in range(-3, 4))
        poses = [(turn, *shift, zoom) for turn in seven for shift in itertools.product(five, five) for zoom in ends]
    else:
        still = (0.0, 0.0, 0.0)
        turns = [still, *(tuple(a if i == axis else 0.0 for i in range(3)) for axis in range(3) for a in five if a)]
        kinds = [(turn, 0.0) for turn in turns] + [(still, zoom) for zoom in (-1.0, 1.0)]
        poses = [(*turn, *shift, zoom) for turn, zoom in kinds for shift in itertools.product(ends, repeat=3)]
    return torch.tensor(sorted(poses, key=lambda pose: any(pose)))


def inverse_affine(angles: Tensor, shifts_mm: Tensor, zoom: Tensor, spacing: Tensor, size: torch.Size) -> Tensor:
    """From places in the new image to places in the original, in torch's normalised coordinates.

    The content goes from ``p`` to ``zoom R p + t`` (millimetres from the centre), so the new image at ``q`` shows the
    original at ``R^T (q - t) / zoom``.

    Args:
        angles: ``(..., r)`` degrees: in the plane; in volumes also about the row and column axes.
        shifts_mm: ``(..., d)``, (slice,) row, column.
        zoom: ``(...)``.
        spacing: ``(..., d)`` millimetres per pixel.
        size: Of the image.

    Returns:
        ``(..., d, d + 1)`` for :func:`torch.nn.functional.affine_grid`, whose axes run from column to slice.
    """
    half = spacing * torch.tensor(size, device=spacing.device) / 2  # millimetres in one normalised unit
    turned = rotation(angles).transpose(-1, -2) / zoom[..., None, None]
    linear = turned * half[..., None, :] / half[..., :, None]
    offset = -(turned @ shifts_mm[..., None]) / half[..., :, None]
    return torch.cat([linear.flip(-1, -2), offset.flip(-2)], -1)


def rotation(angles: Tensor) -> Tensor:
    """Rotation matrices ``(..., d, d)`` on (slice,) row, column from degrees ``(..., 1)`` or ``(..., 3)``.

    >>> rotation(torch.tensor([90.0])).round().int().tolist()
    [[0, -1], [1, 0]]
    """
    cos, sin = torch.deg2rad(angles).cos(), torch.deg2rad(angles).sin()
    if angles.shape[-1] == 1:
        return torch.stack([cos, -sin, sin, cos], -1).reshape(*angles.shape[:-1], 2, 2)
    eye = torch.eye(3, device=angles.device).expand(*angles.shape[:-1], 3, 3)
    total = eye
    for turn, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        one = eye.clone()
        one[..., i, i], one[..., j, j] = cos[..., turn], cos[..., turn]
        one[..., i, j], one[..., j, i] = -sin[..., turn], sin[..., turn]
        total = one @ total
    return total


def may_lose(batch: Batch) -> Tensor:
    """Which cases ``(N,)`` may have a lesion that nobody has marked: positives that do not say where it is."""
    positive = (batch.labels == 1).any(1)
    if batch.lesion is None:
        return positive
    marked = batch.lesion.flatten(1).any(1)
    return positive & ~(torch.tensor(batch.lesion_known, device=marked.device) if batch.lesion_known else marked)


def leaves_field(masks: Tensor, matrix: Tensor) -> Tensor:
    """Whether a pose takes any marked pixel out of the image, ``(L, M)``.

    Args:
        masks: ``(L, 1, ...)`` boolean, on the original.
        matrix: ``(L, M, d, d + 1)``, from places in the new image to places in the original.
    """
    back = torch.linalg.inv(matrix[..., :-1])
    forward = torch.cat([back, -back @ matrix[..., -1:]], -1).flatten(0, 1)
    size = [len(forward), 1, *masks.shape[2:]]
    outside = (functional.affine_grid(forward, size, align_corners=False).abs() > 1 + 1e-5).any(-1)
    return (outside.reshape(*matrix.shape[:2], -1) & masks.flatten(1)[:, None]).any(2)


def resampled(images: Tensor, matrix: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Images ``(L, 1, ...)`` in M poses each, linear interpolation, continued with their own edge.

    Args:
        images: Originals.
        matrix: ``(L, M, d, d + 1)``.
        same: ``(L, M)`` poses that change nothing: the original, bit for bit.

    Returns:
        ``(L, M, 1, ...)``, and the share ``(L, M)`` of pixels that lie beyond the original's edge.
    """
    rows, poses = matrix.shape[:2]
    repeated = images[:, None].expand(-1, poses, *images.shape[1:])
    flat = repeated.flatten(0, 1)
    grid = functional.affine_grid(matrix.flatten(0, 1), list(flat.shape), align_corners=False)
    moved = functional.grid_sample(flat, grid, padding_mode="border", align_corners=False).reshape(repeated.shape)
    beyond = (grid.abs() > 1).any(-1).flatten(1).float().mean(1).reshape(rows, poses)
    return torch.where(same.reshape(rows, poses, *[1] * (images.ndim - 1)), repeated, moved), beyond
