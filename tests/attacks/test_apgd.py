"""APGD: the published schedule step by step, exact answers on linear models, and the laws of every attack."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from robustbench_rad.attacks._apgd import checkpoints
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._threat import stored, whole_grey_levels
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.apgd_l2 import ApgdL2, unit
from robustbench_rad.attacks.apgd_linf import ApgdLinf
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.errors import PlanError

FINE = 24  # bits: rounding stays below 1e-7, so that planes can be compared
RADIUS = 32 / 255
STEPS = 40
NORMS = {"linf": ApgdLinf, "l2": ApgdL2}


@pytest.fixture(params=list(NORMS))
def norm(request):
    return request.param


def projected(plane, centre, radius, norm):
    change = plane - centre
    if norm == "linf":
        change = change.clamp(-radius, radius)
    else:
        rms = change.square().mean().sqrt()
        change = change * torch.clamp(radius / rms.clamp_min(1e-30), max=1.0)
    return (centre + change).clamp(0, 1)


def published(loss, centre, radius, iterations, norm):
    """Croce & Hein 2020, algorithm 1, for one image; maximises. Returns every point where the loss was taken."""

    def value_and_direction(x):
        x = stored(x, FINE).requires_grad_()  # as the oracle sees it: a step decides by signs of gradients near 0
        value = loss(x)
        (gradient,) = torch.autograd.grad(value, x)
        if norm == "linf":
            return float(value.detach()), gradient.sign()
        return float(value.detach()), gradient / gradient.square().mean().sqrt()

    p, w = [0.0, 0.22], [0, math.ceil(0.22 * iterations)]
    while True:
        p.append(round(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06), 10))
        if p[-1] > 1:
            break
        w.append(math.ceil(round(p[-1] * iterations, 10)))
    eta, alpha = 2 * radius, 0.75
    x, points = [centre], [centre]
    f0, d0 = value_and_direction(centre)
    f, directions = [f0], [d0]
    f_max, x_max, d_max = f0, centre, d0
    eta_at, f_max_at, rises, halvings = {0: eta}, {0: f0}, [], 0
    for k in range(iterations):
        z = projected(x[k] + eta * directions[k], centre, radius, norm)
        new = (
            z
            if k == 0
            else projected(x[k] + alpha * (z - x[k]) + (1 - alpha) * (x[k] - x[k - 1]), centre, radius, norm)
        )
        points.append(new)
        value, direction = value_and_direction(new)
        if value > f_max:
            f_max, x_max, d_max = value, new, direction
        rises.append(value > f[k])
        if k + 1 in w:
            j = w.index(k + 1)
            first = sum(rises[w[j - 1] : w[j]]) < 0.75 * (w[j] - w[j - 1])
            second = j > 1 and eta_at[w[j - 2]] == eta and f_max_at[w[j - 1]] == f_max
            eta_at[w[j - 1]], f_max_at[w[j]] = eta, f_max
            if first or second:
                eta, new, value, direction, halvings = eta / 2, x_max, f_max, d_max, halvings + 1
        x.append(new)
        f.append(value)
        directions.append(direction)
    return points, f_max, halvings


def asked(lab, attack, classifier, images, labels):
    """Margins, and the planes the model was asked about, of one case."""
    spy = lab.SpyQuery(classifier)
    batch = lab.batch(images, labels, stored_bits=FINE, clean_margins=classifier.margins(images).detach())
    margins, _ = lab.attack(attack, classifier, batch, spy)
    return margins, spy.planes


@pytest.mark.parametrize("row", range(6))
def test_it_is_the_published_algorithm(lab, calibrated, norm, row):
    classifier, images, labels = calibrated(cases=6, seed=4, act=nn.Tanh)
    image, label = images[[row]], labels[[row]]
    side = 2 * label.item() - 1
    attack = NORMS[norm](levels=ladder("32/255"), steps=STEPS, full_search=("32/255",))
    margins, planes = asked(lab, attack, classifier, image, label)
    radius = torch.tensor(RADIUS) if norm == "l2" else whole_grey_levels(torch.tensor(RADIUS), FINE)
    points, best, halvings = published(lambda x: -side * classifier.margins(x)[0, 0], image, radius, STEPS, norm)
    assert halvings >= 2
    torch.testing.assert_close(torch.cat(planes[1:]), torch.cat(points), rtol=0, atol=1e-6)  # the first is the original
    torch.testing.assert_close(margins["32/255"].item(), -side * best, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("steps", "expected"), [(1, (1,)), (4, (1, 2, 3, 4)), (50, (11, 21, 29, 35, 40, 44, 47, 50))])
def test_checkpoints_come_ever_closer(steps, expected):
    assert checkpoints(steps) == expected


def boxed_linf(model, images, side, radius):
    x, w = images.flatten(1).double(), model.weight[0].double()
    down = side.double() * w > 0
    room = torch.where(down, x, 1 - x).clamp(max=radius)
    return side[:, 0].double() * (x @ w + model.bias.double()) - (w.abs() * room).sum(1)


def boxed_l2(model, images, side, radius):
    """Worst health within an RMS radius and the box: ``change = min(room, t |w|)`` with the ``t`` that spends the radius."""
    x, w = images.flatten(1).double(), model.weight[0].double()
    room = torch.where(side.double() * w > 0, x, 1 - x)
    low, high = torch.zeros(len(x), 1).double(), torch.full((len(x), 1), 1e3).double()
    for _ in range(200):
        t = (low + high) / 2
        rms = torch.minimum(room, t * w.abs()).square().mean(1, keepdim=True).sqrt()
        low, high = torch.where(rms < radius, t, low), torch.where(rms < radius, high, t)
    return side[:, 0].double() * (x @ w + model.bias.double()) - (w.abs() * torch.minimum(room, low * w.abs())).sum(1)


LADDER = ("1/255", "2/255", "4/255", "8/255")


@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_robust_exactly_where_the_box_form_says(lab, norm, full):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((300, 1, 8, 8), bits=FINE, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = NORMS[norm](levels=ladder(*LADDER), full_search=LADDER if full else (), steps=60)
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=FINE))
    side, rates = lab.side(labels), []
    for level in attack.levels:
        worst = (boxed_linf if norm == "linf" else boxed_l2)(model, images, side, level.value)
        flipped = (worst < 0) | ((worst == 0) & (side[:, 0] < 0))
        assert torch.equal((margins[level.name][:, 0] >= 0).float() != labels[:, 0], flipped)
        rates.append(flipped.float().mean().item())
        if full:
            close = 1e-4 if norm == "linf" else 5e-3  # shrinking before clipping only tends to the worst plane
            torch.testing.assert_close(margins[level.name][:, 0] * side[:, 0], worst.float(), rtol=1e-4, atol=close)
    assert rates[0] < rates[-1]
    assert rates[-1] > 0


def test_volumes_give_the_answer_of_their_flattened_planes(lab, norm):
    model = lab.linear(60, findings=2)
    volumes = lab.images((5, 1, 3, 4, 5), bits=8)
    labels = (lab.images((5, 2), seed=1) > 0.5).float()
    attack = NORMS[norm](levels=ladder("1/255", "2/255"), full_search=("2/255",), steps=5)
    three_d, _ = lab.attack(attack, lab.classifier(model, size=(3, 4, 5), findings=2), lab.batch(volumes, labels))
    flat = lab.classifier(model, size=(6, 10), findings=2)
    two_d, _ = lab.attack(attack, flat, lab.batch(volumes.reshape(5, 1, 6, 10), labels))
    for name, margins in three_d.items():
        torch.testing.assert_close(margins, two_d[name])


@pytest.fixture
def bench(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    labels = labels.clone()
    labels[0, 0], labels[1, 1] = torch.nan, 1 - labels[1, 1]
    return classifier, lab.batch(images, labels)


@pytest.mark.parametrize("full", [(), ("1/255", "2/255")], ids=["to-the-flip", "full-search"])
def test_order_companions_and_compaction_change_nothing(lab, bench, norm, full):
    classifier, batch = bench
    attack = NORMS[norm](levels=ladder("1/255", "2/255"), steps=9, random_starts=1, full_search=full)
    reference, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5])
    some, measured_again = lab.attack(attack, classifier, batch.select(order))
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], some[name], equal_nan=True, rtol=1e-4, atol=1e-5)
    assert measured.keys() == measured_again.keys()
    climb = replace(Climb.of(attack, batch, lab.SpyQuery(classifier), None), compact_every=4)
    climb.run()
    for margins, lazily in zip(reference.values(), climb.record.margins, strict=True):
        torch.testing.assert_close(margins, lazily, equal_nan=True)


def test_no_plane_leaves_the_ball_the_box_or_the_grid(lab, calibrated, norm):
    classifier, images, labels = calibrated(cases=1)
    attack = NORMS[norm](levels=ladder("3/255"), full_search=("3/255",), steps=12, random_starts=1)
    spy = lab.SpyQuery(classifier)
    lab.attack(attack, classifier, lab.batch(images, labels), spy)
    planes = torch.cat(spy.planes)
    change = planes - images
    size = change.abs().amax() if norm == "linf" else change.flatten(1).square().mean(1).sqrt().amax()
    assert 2.5 / 255 < size <= 3 / 255 * (1 + 1e-5)
    assert planes.min() >= 0
    assert planes.max() <= 1
    torch.testing.assert_close(planes * 255, (planes * 255).round(), rtol=0, atol=1e-4)


def test_a_masked_pixel_is_left_alone(lab, norm):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((4, 1, 8, 8), bits=8)
    anatomy = lab.images((4, 1, 8, 8), seed=3) > 0.5
    spy = lab.SpyQuery(classifier)
    attack = NORMS[norm](levels=ladder("8/255"), full_search=("8/255",), steps=5, mask="anatomy")
    batch = lab.batch(images, lab.called(classifier, images), anatomy=anatomy)
    lab.attack(attack, classifier, batch, spy)
    for planes in spy.planes:
        assert torch.equal(planes[~anatomy], images[~anatomy])
    assert (spy.planes[-1] - images).abs().max() > 4 / 255


def test_the_price_is_what_an_unbroken_model_costs(lab, norm):
    classifier = lab.classifier(
        lab.Linear(torch.full((2, 36), 1e-6), torch.tensor([5.0, 5.0])), size=(6, 6), findings=2
    )
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 2), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = NORMS[norm](levels=ladder("1/255", "2/255"), steps=7, random_starts=2)
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=2)


def test_it_flips_no_less_than_one_step_and_more_with_every_level(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=20, seed=5)
    batch = lab.batch(images, labels)
    names = ("1/255", "2/255", "4/255")
    one, _ = lab.attack(Fgsm(levels=ladder(*names), full_search=names), classifier, batch)
    many, _ = lab.attack(ApgdLinf(levels=ladder(*names), full_search=names, steps=20), classifier, batch)
    healths = [lab.side(labels) * margins for margins in many.values()]
    assert all((stronger <= milder).all() for milder, stronger in pairwise(healths))
    assert sum((many[name] >= 0).float().ne(labels).sum() for name in names) > 0
    assert all((lab.side(labels) * (many[name] - one[name])).mean() < 0 for name in names[1:])


def test_a_gradient_that_is_no_number_leaves_the_other_cases_alone(lab):
    class Half(nn.Module):
        def forward(self, images):
            flat = images.flatten(1)
            return (
                torch.where(flat[:, :1] > 0.5, flat.sum(1, keepdim=True), (flat - flat).sqrt().sum(1, keepdim=True)) - 8
            )

    classifier = lab.classifier(Half(), size=(4, 4))
    images = torch.full((2, 1, 4, 4), 0.55)
    images[1] = 0.2
    batch = lab.batch(images, torch.tensor([[1.0], [0.0]]), clean_margins=torch.tensor([[0.8], [-8.0]]))
    margins, measured = lab.attack(ApgdLinf(levels=ladder("2/255"), steps=6, full_search=("2/255",)), classifier, batch)
    assert margins["2/255"].isfinite()[0].all()
    assert measured["zero_gradient", "", "finding-0"].tolist() == [1.0, 1.0]


def test_a_plane_of_zeros_has_no_direction():
    assert torch.equal(unit(torch.zeros(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 2.5}, {"steps": True}, {"random_starts": -1}])
def test_a_search_that_cannot_be_made_is_refused(norm, options):
    with pytest.raises(PlanError, match=next(iter(options))):
        NORMS[norm].from_options(options)
