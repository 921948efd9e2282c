"""The ablated border: what is covered, by what, and what cannot be covered."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import SHOWS_BURNED_IN, Batch, Space
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts.border_ablation import BorderAblation


def cases(shape=(20, 40), n=6) -> Batch:
    names = tuple(f"case-{row}" for row in range(n))
    return Batch(
        images=torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0)),
        labels=torch.zeros(n, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
    )


def variants(batch, condition, state=None):
    state = condition.fit(None, iter([batch])) if state is None else state
    applied = condition.apply(batch, None, state)
    return {v.level.name: v.images for v in applied.variants}, applied.measurements


def test_ring_and_corners_are_the_mean_image_and_the_rest_is_left():
    batch, condition = cases(), BorderAblation(ring_share=0.1, corner_share=0.25, feather_share=0.0)
    images, _ = variants(batch, condition)
    mean = batch.images.double().mean(0, keepdim=True).float().expand_as(batch.images)
    inside = torch.zeros(1, 1, 20, 40, dtype=torch.bool)
    inside[..., 2:-2, 2:-2] = True
    assert torch.equal(images["ring"], torch.where(inside, batch.images, mean))
    corners = torch.zeros(20, 40, dtype=torch.bool)
    for rows in (slice(0, 5), slice(-5, None)):
        for columns in (slice(0, 5), slice(-5, None)):
            corners[rows, columns] = True
    assert torch.equal(images["corners"], torch.where(corners, mean, batch.images))


def test_a_soft_edge_lies_inside_of_the_ring_and_nothing_shines_through_it():
    batch, condition = cases((60, 60)), BorderAblation(ring_share=0.1, feather_share=0.1)
    state = condition.fit(None, iter([batch]))
    other = replace(batch, images=batch.images.clone())
    other.images[..., :6, :] = 0.0
    one, two = (variants(b, condition, state)[0]["ring"] for b in (batch, other))
    assert torch.equal(one[..., :6, :], two[..., :6, :])
    assert not torch.equal(one[..., 6, 20:40], batch.images[..., 6, 20:40])
    assert torch.equal(one[..., 20:40, 20:40], batch.images[..., 20:40, 20:40])


def test_the_mean_depends_on_neither_batch_size_nor_order_and_spares_burned_in_text():
    batch, condition = cases(n=7), BorderAblation()
    burned = replace(batch, burned_in=(True, *[False] * 6))
    pieces = [burned.select(rows) for rows in torch.tensor([3, 0, 6, 1, 5, 2, 4]).split(2)]
    one, other = condition.fit(None, iter([burned])), condition.fit(None, iter(pieces))
    torch.testing.assert_close(one["mean"], other["mean"])
    torch.testing.assert_close(one["mean"], batch.images[1:].double().mean(0, keepdim=True).float())
    assert not one[SHOWS_BURNED_IN]
    everyone = condition.fit(None, iter([replace(batch, burned_in=(True,) * 7)]))
    assert everyone[SHOWS_BURNED_IN]


def test_every_slice_of_a_volume_loses_its_own_border():
    batch, condition = cases((3, 24, 24)), BorderAblation(feather_share=0.0)
    images, _ = variants(batch, condition)
    assert torch.equal(images["ring"][..., 5:-5, 5:-5], batch.images[..., 5:-5, 5:-5])
    mean = batch.images.double().mean(0, keepdim=True).float()
    assert torch.equal(images["ring"][:, :, :, 0], mean[:, :, :, 0].expand(6, -1, -1, -1))


def test_how_much_of_image_and_anatomy_is_covered_is_measured():
    batch = cases((20, 20))
    anatomy = torch.zeros_like(batch.images, dtype=torch.bool)
    anatomy[1:, ..., :4, 5:15] = True
    batch = replace(batch, anatomy=anatomy)
    _, measurements = variants(batch, BorderAblation(ring_share=0.1, levels=(BorderAblation.level("ring"),)))
    values = {m.quantity: m.values for m in measurements}
    assert values["covered_share"].tolist() == pytest.approx([(400 - 256) / 400] * 6)
    assert values["anatomy_covered_share"][0].isnan()
    assert values["anatomy_covered_share"][1:].tolist() == [0.5] * 5


def test_what_cannot_be_covered_is_refused():
    batch, condition = cases(), BorderAblation()
    with pytest.raises(DataError, match="expected a mean image"):
        condition.apply(batch, None, None)
    with pytest.raises(DataError, match="expected a mean image"):
        condition.apply(batch, None, condition.fit(None, iter([cases((30, 30))])))
    with pytest.raises(DataError, match="expected display images"):
        condition.apply(replace(batch, space=Space.PHYSICAL), None, None)
    assert condition.fit(None, iter([])) is None
    with pytest.raises(PlanError, match="Did you mean 'corners'"):
        BorderAblation.from_options({"levels": ["corner"]})
