"""The planted linear model and its cases, in display space or seen through the resizing of a file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_rad.attacks._sentinel_answers import Floats, largest_drop
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Batch, Space, Unit
from robustbench_rad.query import CountingQuery
from robustbench_rad.seeds import derive_seed, generator
from robustbench_rad.stored import stored_view

BITS = 8
MAGNIFIED = 2  # in the plane: pixels of the model's input per stored pixel and axis


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A linear model with cases whose calls are right.

    Attributes:
        classifier: The model: one logit.
        batch: N cases on the grid of 8 bits, in display or in stored space.
        weight: ``(P,)`` of the pixels of the batch.
        clean: ``(N,)`` health of the originals.
    """

    classifier: Classifier
    batch: Batch
    weight: Floats
    clean: Floats

    @property
    def side(self) -> Floats:
        """``(N,)``: +1 where the finding is present, -1 where it is not."""
        return self.batch.labels[:, 0].double().numpy() * 2 - 1

    def worst(self, norm: str, radius: float) -> Floats:
        """Exact lowest health ``(N,)`` inside a ball of ``radius`` and the box; any other norm: anywhere in the box."""
        flat = self.batch.images.double().flatten(1).numpy()
        return self.clean - np.array(
            [largest_drop(norm, radius, np.abs(self.weight), free) for free in self.room(flat)], dtype=np.float64
        )

    def room(self, flat: Floats) -> Floats:
        """Distance ``(N, P)`` of each pixel to the end of the range that lowers the health."""
        lowers = -self.side[:, None] * self.weight[None]
        found: Floats = np.where(lowers > 0, 1 - flat, flat)
        return found

    def query(self) -> CountingQuery:
        """The model, asked about images of the batch's space."""
        query = CountingQuery(self.classifier)
        return query.through(stored_view(self.batch, self.classifier)) if self.batch.space is Space.STORED else query


def plant(
    shape: tuple[int, ...], cases: int, *, seed: int = 0, space: Space = Space.DISPLAY, inside: bool = False
) -> Planted:
    """Plant a model of random weights in random images, with a bias that puts the cases on both sides.

    Args:
        shape: Of the images.
        cases: N.
        seed: Of the draws.
        space: Display, or stored: the model is shown the images at twice the size in the plane.
        inside: Keep the images to the middle half of the range, so that no radius in use reaches the box.
    """
    source = generator("cpu", "attack sentinel", seed, *shape)
    levels = 2**BITS - 1
    size = shape if space is Space.DISPLAY else (*shape[:-2], *(MAGNIFIED * side for side in shape[-2:]))
    low, high = (levels // 4 + 1, 3 * levels // 4) if inside else (0, levels)
    images = torch.randint(low, high + 1, (cases, 1, *shape), generator=source).float() / levels
    weight = torch.randn(int(np.prod(size)), generator=source)
    own = weight.double() if space is Space.DISPLAY else _stored_weight(weight, shape, size)
    raw = images.flatten(1).double() @ own
    ordered = raw.sort().values
    bias = float(-(ordered[cases // 2 - 1] + ordered[cases // 2]) / 2)
    module = _Linear(weight, bias)
    head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("planted",), thresholds=(0.5,))
    classifier = Classifier(module=module.eval(), input=InputSpec(size=size), head=head)
    names = tuple(f"planted-{row}" for row in range(cases))
    exact = (raw + bias).numpy()
    batch = Batch(
        images=images,
        labels=(torch.from_numpy(exact)[:, None] >= 0).float(),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed("attack sentinel", name) for name in names),
        space=space,
        on_grid=(True,) * cases,
        spacing_mm=torch.ones(cases, len(shape)),
        anatomy=torch.ones_like(images, dtype=torch.bool),
        limits=(-1000.0, 400.0) if space is Space.DISPLAY else (0.0, 1.0),
        limits_unit=Unit.HU if space is Space.DISPLAY else None,
        stored_bits=BITS,
    )
    planted = Planted(classifier=classifier, batch=batch, weight=own.numpy(), clean=np.abs(exact))
    return replace(planted, batch=replace(batch, clean_margins=planted.query().margins(images)))


def _stored_weight(weight: Tensor, shape: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Weight of every stored pixel: what the model is shown of that pixel alone, seen one at a time."""
    units = torch.eye(int(np.prod(shape))).reshape(-1, 1, *shape)
    shown = InputSpec(size=size).display(units)
    return shown.flatten(1).double() @ weight.double()


class _Linear(nn.Module):
    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weight + self.bias)[:, None]
