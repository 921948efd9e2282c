"""Square attack: exact corners of linear models, the published schedule, windows that reach every pixel."""

import pytest
import torch

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks._windows import boxes, window_sides, windows
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.square_linf import SquareLinf, window_share
from robustbench_rad.errors import PlanError

LADDER = ("1/255", "2/255", "4/255")


def boxed_worst(model, images, side, eps):
    """``(N, 1)`` worst margins of a linear model in the ball and the box, in float64."""
    x, w = images.flatten(1).double(), model.weight.double()
    down = side.double() * w > 0
    room = torch.where(down, x, 1 - x).clamp(max=eps)
    return (x @ w.T + model.bias.double()) - side.double() * (w.abs() * room).sum(1, keepdim=True)


@pytest.mark.parametrize(("queries", "candidates"), [(500, 1), (1200, 5)])
@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 4)], ids=["plane", "volume"])
def test_robust_exactly_where_the_box_form_says(lab, shape, queries, candidates):
    pixels = torch.Size(shape).numel()
    model = lab.linear(pixels)
    classifier = lab.classifier(model, size=shape)
    images = lab.images((300, 1, *shape), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = SquareLinf(levels=ladder(*LADDER), full_search=LADDER, queries=queries, candidates=candidates)
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    rates = []
    for level in attack.levels:
        worst = boxed_worst(model, images, lab.side(labels), level.value)
        flipped = (worst >= 0).float() != labels
        assert torch.equal((margins[level.name] >= 0).float() != labels, flipped)
        torch.testing.assert_close(margins[level.name], worst.float(), rtol=1e-4, atol=1e-4)
        rates.append(flipped.float().mean().item())
    assert 0 < rates[0] < rates[-1] < 1


def test_the_schedule_is_the_published_one_stretched_to_the_budget():
    published = {0: 1, 10: 1, 11: 2, 50: 2, 51: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128, 6001: 256, 8001: 512}
    for asked, divisor in published.items():
        assert window_share(0.8, asked, 10_000) == 0.8 / divisor
    assert window_share(0.8, 9_999, 10_000) == window_share(0.8, 499, 500) == 0.8 / 512


@pytest.mark.parametrize("shape", [(3, 9), (9, 3), (2, 4, 6), (1, 12), (5, 5)])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.8, 1.0])
def test_windows_fit_and_have_their_share_of_the_pixels(shape, share):
    extents = torch.tensor([shape])
    (sides,) = window_sides(share, extents).tolist()
    assert all(1 <= side <= extent for side, extent in zip(sides, shape, strict=True))
    pixels = torch.tensor(sides).prod() / extents.prod()
    assert abs(pixels - share) < 0.5 or share < 0.1
    if share == 1.0:
        assert tuple(sides) == shape


@pytest.mark.parametrize("shape", [(4, 7), (3, 4, 5)])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_windows_reach_every_row_and_column_alike(shape, side):
    dims = len(shape)
    draws = torch.rand(1, 4000, dims, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first, extents = torch.zeros(1, dims, dtype=torch.int64), torch.tensor([shape])
    found = windows(draws, torch.full((1, dims), side), first, extents, shape)[0, :, 0]
    assert (found.flatten(1).sum(1) == side**dims).all()
    starts = found.flatten(1).int().argmax(1).bincount(minlength=torch.Size(shape).numel()).float()
    places = torch.tensor([size - side + 1 for size in shape]).prod()
    used = starts[starts > 0]
    assert len(used) == places
    assert (used * places / 4000 - 1).abs().max() < 0.6
    assert found.any(0).all()
    extreme = windows(
        torch.tensor([[[1.0] * dims, [-1.0] * dims]]), torch.full((1, dims), side), first, extents, shape
    )[0, :, 0]
    assert extreme[0].flatten()[-1]
    assert extreme[1].flatten()[0]


def test_windows_lie_in_the_box_around_what_may_be_touched(lab):
    allowed = torch.zeros(2, 1, 9, 11, dtype=torch.bool)
    allowed[0, 0, 2:5, 7:11], allowed[1, 0, 8, 0] = True, True
    first, extents = boxes(torch.zeros(2, 1, 9, 11), allowed)
    assert first.tolist() == [[2, 7], [8, 0]]
    assert extents.tolist() == [[3, 4], [1, 1]]
    model = lab.linear(99)
    classifier = lab.classifier(model, size=(9, 11))
    images = lab.images((2, 1, 9, 11), bits=8)
    batch = lab.batch(images, lab.called(classifier, images), anatomy=allowed)
    spy = lab.SpyQuery(classifier)
    attack = SquareLinf(levels=ladder("4/255"), queries=200, mask="anatomy", full_search=("4/255",))
    margins, _ = lab.attack(attack, classifier, batch, spy)
    for planes in spy.planes[2:]:
        inside = allowed.repeat_interleave(len(planes) // 2, 0)
        before = images.repeat_interleave(len(planes) // 2, 0)
        assert torch.equal(planes[~inside], before[~inside])
    gradient, _ = lab.attack(Fgsm(levels=ladder("4/255"), mask="anatomy", full_search=("4/255",)), classifier, batch)
    torch.testing.assert_close(margins["4/255"], gradient["4/255"], rtol=1e-4, atol=1e-4)


def test_every_query_changes_the_plane(lab):
    model = lab.linear(36)
    classifier = lab.classifier(model, size=(6, 6))
    images = lab.images((1, 1, 6, 6), bits=8) * 0.5 + 0.25
    spy = lab.SpyQuery(classifier)
    attack = SquareLinf(levels=ladder("4/255"), queries=300, candidates=1, full_search=("4/255",))
    lab.attack(attack, classifier, lab.batch(images, lab.called(classifier, images)), spy)
    side = lab.side(lab.called(classifier, images)).item()
    best, here = float("inf"), None
    for plane in spy.planes[2:]:
        assert here is None or not torch.equal(plane, here)
        health = side * classifier.margins(plane).item()
        if health < best:
            best, here = health, plane


def test_a_convolutional_network_flips_and_more_queries_find_more(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=16, seed=5)
    batch = lab.batch(images, labels)
    worst = []
    for queries in (5, 50, 500):
        attack = SquareLinf(levels=ladder("16/255"), queries=queries, full_search=("16/255",))
        margins, _ = lab.attack(attack, classifier, batch)
        worst.append((lab.side(labels) * margins["16/255"]).mean().item())
    assert worst[0] > worst[1] > worst[2]
    assert ((margins["16/255"] >= 0).float() != labels).float().mean() > 0.8


def test_a_larger_level_begins_at_what_the_smaller_one_found(lab):
    model = lab.linear(36)
    classifier = lab.classifier(model, size=(6, 6))
    images = lab.images((4, 1, 6, 6), bits=16) * 0.5 + 0.25
    labels = lab.called(classifier, images)
    attack = SquareLinf(levels=ladder("1/255", "2/255"), queries=1500, full_search=("1/255", "2/255"))
    spy = lab.SpyQuery(classifier)
    lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16), spy)
    first = spy.planes[2 + 1500 // 4]  # the first round of the second level
    worst = boxed_worst(model, images, lab.side(labels), 2 / 255).float()
    begun = classifier.margins(first).detach().reshape(4, 4)[:, :1]
    torch.testing.assert_close(begun, worst, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"queries": 0},
        {"queries": 2.5},
        {"queries": True},
        {"candidates": 0},
        {"candidates": "4"},
        {"share": 0},
        {"share": 1.1},
        {"share": "0.8"},
        {"share": True},
    ],
)
def test_a_search_that_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        SquareLinf.from_options(options)
