"""What the counterfactual insertions share: an object and its placebo at every place, with the same energy of change.

A model answers any change of an image a little. So what an object does to a score is held against a placebo: the same pixels
in a form that is no such object, at a place where none is expected. The placebo is weakened until the root mean square of its
change is that of the object; where it cannot reach it (a bright place cannot become much brighter) the measured
``change_rms`` of both says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Applied, Batch, Condition, Level, Measurement, ModelQuery, Space, State, Variant
from robustbench_rad.errors import DataError, suggestion
from robustbench_rad.registry import entry
from robustbench_rad.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

PLACEBO = ", placebo"
_FADED = 0.4  # of the shorter side; reaches far in, so that little of the shade lies where the frame or the shutter is
UNCHANGED = "the image is like this already"


def placebo_of(name: str) -> str:
    """Name of the placebo's level.

    >>> placebo_of("top left")
    'top left, placebo'
    """
    return name + PLACEBO


def object_of(name: str) -> str:
    """Name of the object's level, given its own or its placebo's.

    >>> object_of("top left, placebo"), object_of("top left")
    ('top left', 'top left')
    """
    return name.removesuffix(PLACEBO)


def with_placebos(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Every object followed by its placebo, whichever of the two was listed.

    >>> [level.name for level in with_placebos([Level(name="left", value=0.0, unit="")])]
    ['left', 'left, placebo']
    """
    found = {object_of(level.name): float(int(level.value / 2) * 2) for level in levels}
    pairs = (
        (Level(name=n, value=v, unit=""), Level(name=placebo_of(n), value=v + 1, unit="")) for n, v in found.items()
    )
    return tuple(level for pair in pairs for level in pair)


def paired_levels(*names: str) -> tuple[Level, ...]:
    """Objects and placebos of these names; ``value`` is their place in the list."""
    return with_placebos([Level(name=name, value=2.0 * place, unit="") for place, name in enumerate(names)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What is laid over the images of a batch.

    Attributes:
        real: ``(N, 1, H, W)`` the object, in what the condition paints with: opacity, or decades of attenuation.
        placebos: The same in a neutral form, at neutral places to choose from.
    """

    real: Tensor
    placebos: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Paired(Condition):
    """Base of what alters an image in pairs, the real thing and its placebo.

    Measured per level: ``x_share`` and ``y_share``, the centre of what changed, in shares of the width and height from the
    upper left corner; ``change_rms``, the root mean square of the change over the image, in shares of the display range.

    Attributes:
        levels: Names; the placebo of each is added where it is not listed.
    """

    names: ClassVar[tuple[str, ...]] = ()
    volumes: ClassVar[bool] = False
    only_projections: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", with_placebos(self.levels))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the name of an object, or of its placebo.

        Raises:
            ValueError: No such object; the nearest one is named.
        """
        name = object_of(str(value))
        if name not in cls.names:
            raise ValueError(f"no {name!r}. {suggestion(name, cls.names)}")
        place = 2.0 * cls.names.index(name) + float(name != str(value))
        return Level(name=str(value), value=place, unit="")

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Alter every image once per level.

        Raises:
            DataError: Images of another space, modality or shape than the condition has meaning for.
        """
        del query
        self.refuse(batch)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, state, measurements), measurements=measurements)

    def refuse(self, batch: Batch) -> None:
        """Refuse by name what the object does not lie on.

        Raises:
            DataError: Says what was expected and what came.
        """
        if batch.space is not Space.DISPLAY or batch.images.shape[1] != 1:
            raise DataError(
                f"{self.id}: expected display images with one plane, got {batch.space} images of shape "
                f"{tuple(batch.images.shape)}"
            )
        if self.only_projections and batch.modality not in entry(self.id).modalities:
            raise DataError(
                f"{self.id}: expected projection radiographs ({', '.join(entry(self.id).modalities)}), got {batch.modality}",
                hint="Leave this check out of the plan.",
            )
        if batch.images.ndim != 4 and not self.volumes:
            raise DataError(
                f"{self.id}: expected images of shape (N, 1, H, W), got {tuple(batch.images.shape)}",
                hint="It lies on a projection, not in a volume: leave this check out of the plan.",
            )

    def pair(self, batch: Batch, state: State | None, name: str) -> tuple[Tensor, Tensor, Tensor, str]:
        """Images with the object, with its placebo, which cases it has meaning for ``(N,)``, and why not for others."""
        raise NotImplementedError

    def draws(self, batch: Batch, count: int, name: str) -> Tensor:
        """``(N, count)`` numbers in [0, 1) on the CPU, row i from the seed of case i; all levels share them."""
        parts = (self.id, self.version, name)
        return torch.stack([torch.rand(count, generator=generator("cpu", seed, *parts)) for seed in batch.seeds])

    def generators(self, batch: Batch, name: str) -> Iterator[torch.Generator]:
        """One generator on the CPU per case."""
        return (generator("cpu", seed, self.id, self.version, name) for seed in batch.seeds)

    def _variants(self, batch: Batch, state: State | None, measurements: list[Measurement]) -> Iterator[Variant]:
        made: dict[str, tuple[Tensor, Tensor, Tensor, str]] = {}
        for level in self.levels:
            name = object_of(level.name)
            if name not in made:
                made = {name: self.pair(batch, state, name)}  # only one pair is in memory
            real, placebo, applicable, reason = made[name]
            images = real if level.name == name else placebo
            measurements.extend(_measured(images, batch.images, applicable, level.name))
            yield Variant(level=level, images=images, applicable=applicable, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Insertion(Paired):
    """Base of the objects that are drawn over an image; see the attributes of :class:`Paired`."""

    def drawn(self, batch: Batch, name: str) -> Drawn:
        """The object and its placebos for every case, on the CPU."""
        raise NotImplementedError

    def painted(self, images: Tensor, drawn: Tensor, name: str) -> Tensor:
        """Images with what was drawn, in [0, 1]."""
        raise NotImplementedError

    def pair(self, batch: Batch, state: State | None, name: str) -> tuple[Tensor, Tensor, Tensor, str]:
        """Draw the object and the placebo that comes closest to its energy."""
        del state
        pictures = self.drawn(batch, name)
        real, *placebos = (
            self.painted(batch.images, _over(picture, batch.images), name)
            for picture in (pictures.real, *pictures.placebos)
        )
        applicable = energy(real, batch.images) > 0
        placebo = nearest_in_energy(batch.images, real, placebos)
        return real, placebo, applicable, "" if bool(applicable.all()) else UNCHANGED


def energy(images: Tensor, clean: Tensor) -> Tensor:
    """Summed square ``(N,)`` of the change."""
    return (images - clean).square().flatten(1).sum(1)


def nearest_in_energy(clean: Tensor, real: Tensor, placebos: Sequence[Tensor]) -> Tensor:
    """Of several placebos, for each case the one that reaches the object's energy, weakened to it.

    The change of a placebo is scaled by ``sqrt(E_object / E_placebo)``, at most 1, so the energies are equal where that of the
    placebo is large enough. Of several that reach it the first is taken, of none the one with the most energy.

    Args:
        clean: ``(N, 1, ...)``.
        real: Images with the object.
        placebos: Images with the placebo at full strength, one per neutral place.

    >>> clean = torch.zeros(1, 1, 1, 3)
    >>> real, placebo = clean + torch.tensor([0.5, 0, 0]), clean + torch.tensor([0, 1.0, 0])
    >>> nearest_in_energy(clean, real, [placebo]).flatten().tolist()
    [0.0, 0.5, 0.0]
    """
    wanted = energy(real, clean)
    energies = torch.stack([energy(placebo, clean) for placebo in placebos])
    reached = torch.minimum(energies * (1.0 + 1e-6), wanted)  # rounding must not decide between two that reach it
    choice = reached.argmax(0)
    chosen = torch.stack(list(placebos))[choice, torch.arange(len(clean), device=clean.device)]
    of_chosen = energies.gather(0, choice[None])[0]
    share = (wanted / of_chosen.clamp_min(1e-12)).sqrt().clamp(max=1.0)
    return torch.lerp(clean, chosen, share.reshape(-1, *[1] * (clean.ndim - 1)))


def _over(picture: Tensor, images: Tensor) -> Tensor:
    """A picture ``(N, 1, H, W)`` as it is laid over images, the same over each slice of a volume."""
    moved = picture.to(images)
    return moved if images.ndim == 4 else moved.unsqueeze(2)


def _measured(images: Tensor, clean: Tensor, applicable: Tensor, level: str) -> list[Measurement]:
    change = (images - clean).abs()
    weights = change.flatten(1).sum(1)
    rms = change.square().flatten(1).mean(1).sqrt()
    numbers = {"x_share": _centre(change, -1) / weights, "y_share": _centre(change, -2) / weights, "change_rms": rms}
    return [
        Measurement(quantity=quantity, values=torch.where(applicable, values, torch.nan), level=level)
        for quantity, values in numbers.items()
    ]


def _centre(change: Tensor, axis: int) -> Tensor:
    length = change.shape[axis]
    places = (torch.arange(length, device=change.device, dtype=change.dtype) + 0.5) / length
    along = change.movedim(axis, -1).flatten(1, -2).sum(1)
    return (along * places).sum(1)


def vignette(shape: Sequence[int]) -> Tensor:
    """Shade ``(1, H, W)`` that fades linearly from 1 at the border to 0 at 0.4 of the shorter side: no edge, no frame.

    >>> vignette((5, 5))[0, 2].round(decimals=2).tolist()
    [0.75, 0.25, 0.0, 0.25, 0.75]
    """
    rows, columns = (torch.minimum(torch.arange(side) + 0.5, side - torch.arange(side) - 0.5) for side in shape)
    depth = torch.minimum(rows[:, None], columns[None]) / min(shape)
    return (1.0 - depth / _FADED).clamp_min(0.0)[None]


def scattered(picture: Tensor, tile_px: int, source: torch.Generator) -> Tensor:
    """Cut a picture ``(H, W)`` into square tiles, and lay those of its bounding box in another order, turned.

    All pixels keep their values: what is lost is the form. An empty picture comes back as it is.

    >>> line = torch.zeros(8, 8); line[3] = 1.0
    >>> float(scattered(line, 2, torch.Generator().manual_seed(0)).sum())
    8.0
    """
    height, width = picture.shape
    tile = max(tile_px, 1)
    padded = torch.nn.functional.pad(picture, (0, -width % tile, 0, -height % tile))
    rows, columns = padded.shape[0] // tile, padded.shape[1] // tile
    tiles = padded.reshape(rows, tile, columns, tile).movedim(1, 2).clone()
    inked = tiles.amax((2, 3)) > 0
    if not bool(inked.any()):
        return picture
    inside = _box(inked, height // tile, width // tile)  # whole tiles only, so that nothing is moved out of the image
    chosen = tiles[inside]
    moved = chosen[torch.randperm(len(chosen), generator=source)]
    turned = torch.rand(len(chosen), generator=source) < 0.5
    tiles[inside] = torch.where(turned[:, None, None], moved.mT, moved)
    return tiles.movedim(2, 1).reshape(padded.shape)[:height, :width]


def _box(inked: Tensor, whole_rows: int, whole_columns: int) -> Tensor:
    """Tiles of the bounding box of the inked ones that lie wholly in the image."""
    rows, columns = inked.any(1).nonzero().flatten(), inked.any(0).nonzero().flatten()
    box = torch.zeros_like(inked)
    box[
        int(rows[0]) : min(int(rows[-1]) + 1, whole_rows), int(columns[0]) : min(int(columns[-1]) + 1, whole_columns)
    ] = True
    return box


def rearranged(dots: Tensor, source: torch.Generator) -> Tensor:
    """The dots of a line of letters ``(7, k)`` in another order: as much ink, no letter."""
    flat = dots.flatten()
    return flat[torch.randperm(len(flat), generator=source)].reshape(dots.shape)
