"""Smooth displacement: exact where the health is linear in a shift, never further than the level, smooth, differentiable."""

import pytest
import torch

from robustbench_rad.attacks._descend import smooth_field, spline_basis
from robustbench_rad.attacks._envelope import NO_SPACING
from robustbench_rad.attacks.smooth_warp import SmoothWarp, jacobian, millimetres, room_around, warped
from robustbench_rad.attacks.spatial import UNSEEN
from robustbench_rad.errors import PlanError


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_field_never_exceeds_its_nodes_and_follows_a_line(nodes, size):
    basis = spline_basis(nodes, size)
    assert basis.shape == (size, nodes)
    assert basis.min() >= 0
    torch.testing.assert_close(basis.sum(1), torch.ones(size))
    field = smooth_field(torch.randn(2, 1, nodes, nodes), (size, 5))
    assert field.shape == (2, 1, size, 5)


@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 6)])
def test_a_constant_displacement_of_whole_pixels_is_a_shift(lab, shape):
    images = lab.images((2, 1, *shape))
    shift = torch.zeros(2, len(shape), *shape)
    shift[:, -1] = 2.0
    at = (torch.arange(shape[-1]) + 2).clamp(max=shape[-1] - 1)
    torch.testing.assert_close(warped(images, shift), images[..., at], atol=1e-5, rtol=0)
    torch.testing.assert_close(warped(images, torch.zeros_like(shift)), images, atol=1e-6, rtol=0)
    assert torch.equal(jacobian(shift), torch.ones(2, *shape))


@pytest.mark.parametrize("shape", [(13, 16), (13, 14, 15)], ids=["plane", "volume"])
@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_a_shift_of_ramps_is_solved_exactly(lab, shape, full):
    """Ramps under a linear model that does not look at the edge: the health is linear in the shift."""
    axes, cases = len(shape), 300 if len(shape) == 2 else 40
    slopes = (lab.images((cases, axes), seed=1) - 0.5) * 0.04
    places = torch.stack(torch.meshgrid(*(torch.arange(s) - (s - 1) / 2 for s in shape), indexing="ij"))
    images = 0.5 + torch.einsum("na,a...->n...", slopes, places)[:, None]
    images = images + 0.2 * lab.images((cases, *[1] * (axes + 1)), seed=3) - 0.1
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    inner = torch.zeros(shape)
    inner[tuple(slice(5, -5) for _ in shape)] = 1
    weight = (weight * inner).reshape(1, -1)
    model = lab.Linear(weight, torch.zeros(1))
    classifier = lab.classifier(model, size=shape)
    with torch.no_grad():
        model.bias -= classifier.margins(images).median()
    spacing = torch.linspace(0.5, 1.0, axes).expand(cases, -1)
    labels, names = lab.called(classifier, images), ("0.5", "1", "2")
    batch = lab.batch(images, labels, spacing_mm=spacing, stored_bits=16)
    attack = SmoothWarp(levels=millimetres(*names), nodes=1, steps=8, full_search=names if full else ())
    margins, measured = lab.attack(attack, classifier, batch)
    fall = weight.sum() * (slopes / spacing).square().sum(1).sqrt()  # per millimetre
    rates = []
    for name in names:
        worst = classifier.margins(images).detach() - lab.side(labels) * float(name) * fall[:, None]
        flipped = (worst >= 0).float() != labels
        clear = worst.abs() > 2e-3  # what rounding to 16 bits and float32 coordinates can change
        assert clear.float().mean() > 0.95
        assert torch.equal(((margins[name] >= 0).float() != labels)[clear], flipped[clear])
        if full:
            torch.testing.assert_close(margins[name], worst, atol=2e-3, rtol=0)
            torch.testing.assert_close(
                measured["largest_displacement_mm", name, "finding-0"], torch.full((cases,), float(name))
            )
        rates.append(flipped.float().mean())
    assert 0 < rates[0] < rates[-1]


def test_many_nodes_find_more_than_a_shift_and_stay_within_the_level(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=12, seed=5)
    smooth = (images.roll(1, 2) + images + images.roll(-1, 3)) / 3
    labels = lab.called(classifier, smooth)
    batch = lab.batch(smooth, labels, spacing_mm=torch.full((12, 2), 2.0))
    worst = []
    for nodes in (1, 5):
        attack = SmoothWarp(levels=millimetres(1, 2), nodes=nodes, full_search=("1", "2"))
        margins, measured = lab.attack(attack, classifier, batch)
        assert measured["largest_displacement_mm", "2", "finding-0"].nan_to_num(0).max() <= 2 + 1e-5
        assert measured["largest_displacement_px", "2", "finding-0"].nan_to_num(0).max() <= 1 + 1e-5
        assert measured["smallest_jacobian", "1", "finding-0"].nan_to_num(1).min() > 0
        worst.append((lab.side(labels) * margins["2"]).mean())
        assert (lab.side(labels) * (margins["2"] - margins["1"]) <= 1e-6).all()
    assert worst[1] < worst[0]
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, _ = lab.attack(attack, classifier, batch.select(order))
    torch.testing.assert_close(shuffled["2"], margins["2"][order])


def test_the_price_is_what_an_unbroken_model_costs_and_pixels_are_said(lab):
    model = lab.Linear(torch.full((1, 30), 1e-6), torch.tensor([5.0]))
    classifier = lab.classifier(model, size=(5, 6))
    images = lab.images((2, 1, 5, 6), bits=8)
    batch = lab.batch(images, torch.ones(2, 1), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = SmoothWarp(steps=4)
    variants = list(attack.apply(batch, spy, None).variants)
    assert {variant.reason for variant in variants} == {f"{NO_SPACING}; {UNSEEN}"}
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 2 * attack.passes(1)


class Spot(torch.nn.Module):
    """Looks for brightness anywhere, a little more to the right: only taking the bright spot out of the image hides it."""

    def forward(self, x):
        weight = 1 + 0.1 * torch.arange(x.shape[-1])
        of_spot = 0.8 * 4 * 3 * x[0, 0, ..., 0, 0].numel()
        return ((x - 0.1).clamp(min=0) * weight).flatten(1).sum(1, keepdim=True) / of_spot - 0.6


@pytest.mark.parametrize("nodes", [1, 3, 5])
@pytest.mark.parametrize("shape", [(12, 17), (6, 9, 10)], ids=["plane", "volume"])
def test_a_lesion_is_never_pushed_over_the_edge_to_hide_it(lab, shape, nodes):
    images = torch.full((3, 1, *shape), 0.1)
    images[..., 3:7, 2:5] = 0.9
    lesion = images > 0.5
    lesion[2] = False
    spacing = torch.linspace(0.7, 1.1, len(shape)).expand(3, -1)
    classifier = lab.classifier(Spot(), size=shape)
    known = lab.batch(images, torch.ones(3, 1), spacing_mm=spacing, lesion=lesion, lesion_known=(True, True, False))
    attack = SmoothWarp(levels=millimetres(6), nodes=nodes, steps=12, full_search=("6",))
    margins, measured = lab.attack(attack, classifier, known)
    free, _ = lab.attack(attack, classifier, lab.batch(images, torch.ones(3, 1), spacing_mm=spacing))
    torch.testing.assert_close(margins["6"][2], free["6"][2])
    if nodes == 1:  # the spot as a whole goes over the edge, or half of its outermost pixels
        assert (free["6"] < -0.4).all()
        assert (margins["6"][:2] > 0).all()
        area = measured["lesion_area", "6", "finding-0"]
        assert (area[:2] > 0.5).all()
        assert area[2].isnan()
    (variant,) = attack.apply(known, lab.SpyQuery(classifier), None).variants
    assert variant.reason == UNSEEN
    (variant,) = attack.apply(known.select(torch.tensor([0, 1])), lab.SpyQuery(classifier), None).variants
    assert variant.reason == ""


@pytest.mark.parametrize("seed", range(4))
def test_every_pixel_of_a_held_lesion_is_shown_somewhere(lab, seed):
    """Any field within the bounds, looked at on a fine grid of places: each pixel of the lesion is met within a pixel."""
    source = torch.Generator().manual_seed(seed)
    mask = torch.zeros(1, 1, 20, 24, dtype=torch.bool)
    mask[..., 2:6, 19:23] = True
    before, after = room_around(mask)
    nodes = (torch.rand(1, 2, 5, 5, generator=source) * 2 - 1) * 4
    free = smooth_field(nodes, (200, 240))
    held = smooth_field(
        torch.maximum(torch.minimum(nodes, before.reshape(1, 2, 1, 1)), -after.reshape(1, 2, 1, 1)), (200, 240)
    )
    axes = [(torch.arange(n) + 0.5) / 10 - 0.5 for n in (200, 240)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    assert (held[0] - free[0]).abs().max() > 0.1
    shown = (places + held[0]).flatten(1).T
    for pixel in mask[0, 0].nonzero():
        assert (shown - pixel).norm(dim=1).min() < 0.3


@pytest.mark.parametrize(
    "options", [{"levels": ["2 HU"]}, {"levels": [0]}, {"nodes": 0}, {"steps": 1.5}, {"mask": "body"}]
)
def test_what_has_no_meaning_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        SmoothWarp.from_options(options)
