"""PGD in the L2 ball: exact on linear models in the box, and lawful."""

import pytest
import torch

from robustbench_rad.attacks._boxed import nearest, room, steepest, waterline
from robustbench_rad.attacks._threat import L2Ball, stored
from robustbench_rad.attacks.pgd_l2 import PgdL2
from robustbench_rad.errors import PlanError

LADDER = ("0.5/255", "1/255", "2/255")


def least_rms(model, images, side):
    """``(N, 1)`` smallest RMS that makes a linear call wrong in the box, by bisection of the dual, in float64."""
    x, w = images.flatten(1).double(), (side.double() * model.weight.double())
    free = torch.where(w > 0, x, 1 - x)
    health = side[:, 0].double() * ((x * model.weight.double()).sum(1) + model.bias.double())
    low, high = torch.zeros(len(x), 1).double(), torch.full((len(x), 1), 1e6).double()
    for _ in range(200):
        t = (low + high) / 2
        enough = ((w.abs() * torch.minimum(t * w.abs(), free)).sum(1) >= health)[:, None]
        low, high = torch.where(enough, low, t), torch.where(enough, t, high)
    return torch.minimum(high * w.abs(), free).square().mean(1).sqrt()[:, None]


def test_robust_exactly_where_the_dual_says(lab):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((320, 1, 8, 8), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = PgdL2.from_options({"levels": LADDER, "steps": 5})
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    least = least_rms(model, images, lab.side(labels))
    rates = []
    for level in attack.levels:
        flipped = (margins[level.name] >= 0).float() != labels
        assert torch.equal(flipped, least <= level.value)
        rates.append(flipped.float().mean().item())
    assert 0 < rates[0] < rates[1] < rates[2] < 1


def test_no_plane_leaves_the_ball_or_the_box(lab, calibrated):
    classifier, images, labels = calibrated(cases=1)
    spy = lab.SpyQuery(classifier)
    attack = PgdL2.from_options({"levels": ["1/255"], "steps": 6, "full_search": ["1/255"]})
    lab.attack(attack, classifier, lab.batch(images, labels), spy)
    planes = torch.cat(spy.planes)
    assert len(planes) > 10
    assert planes.min() >= 0
    assert planes.max() <= 1
    assert (planes - stored(images, 8)).flatten(1).square().mean(1).sqrt().max() <= 1 / 255 * (1 + 1e-4)


def test_a_convolutional_network_flips_earlier_than_by_noise_and_never_recovers(lab, calibrated):
    classifier, images, labels = calibrated(cases=16, seed=4)
    attack = PgdL2.from_options({"levels": ["1/255", "4/255", "16/255"], "steps": 6})
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels))
    flips = torch.stack([(values >= 0).float() != labels for values in margins.values()]).float()
    assert flips[-1].mean() > 0.9
    assert (flips.diff(dim=0) >= 0).all()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 16 / 255
    noisy = (classifier.margins((images + noise).clamp(0, 1)) >= 0).float() != labels
    assert noisy.float().mean() < flips[-1].mean()


def test_full_search_of_a_linear_model_reaches_the_worst_margin(lab):
    model = lab.linear(60, findings=2)
    volumes = lab.images((5, 1, 3, 4, 5), bits=16, saturated=0.2)
    labels = (lab.images((5, 2), seed=1) > 0.5).float()
    attack = PgdL2.from_options({"levels": ["2/255"], "full_search": ["2/255"], "steps": 3})
    batch = lab.batch(volumes, labels, stored_bits=16)
    (of_volumes,) = lab.attack(attack, lab.classifier(model, size=(3, 4, 5), findings=2), batch)[0].values()
    flat = lab.batch(volumes.reshape(5, 1, 6, 10), labels, stored_bits=16)
    (of_planes,) = lab.attack(attack, lab.classifier(model, size=(6, 10), findings=2), flat)[0].values()
    torch.testing.assert_close(of_volumes, of_planes)
    x = volumes.flatten(1)
    threat = L2Ball(centre=x.repeat_interleave(2, 0), radius=torch.full((10,), 2 / 255), bits=16)
    gradient = (lab.side(labels)[..., None] * model.weight).flatten(0, 1).detach()
    change = steepest("l2", gradient, room(threat.centre, gradient, threat), threat.radius)
    expected = model(x).detach() + lab.side(labels) * (gradient * change).sum(1).reshape(5, 2)
    torch.testing.assert_close(of_volumes, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_the_nearest_change_is_the_smallest_steepest_one(norm):
    source = torch.Generator().manual_seed(0)
    gradient, free = torch.randn(30, 1, 5, 4, generator=source), torch.rand(30, 1, 5, 4, generator=source)
    health = torch.rand(30, generator=source) * 4
    change = nearest(norm, gradient, free, health)
    lowered = -(gradient * change).flatten(1).sum(1)
    possible = (gradient.abs() * free).flatten(1).sum(1)
    assert (change.abs() <= free + 1e-6).all()
    assert (lowered >= torch.minimum(health, possible) - 1e-4).all()
    size = {
        "linf": change.abs().flatten(1).amax(1),
        "l2": change.flatten(1).square().mean(1).sqrt(),
        "l1": change.flatten(1).abs().mean(1),
        "l0": (change.flatten(1) != 0).sum(1).float(),
    }[norm]
    smaller = steepest(norm, gradient, free, size - 1 if norm == "l0" else size * 0.98)
    reached = possible > health
    assert (-(gradient * smaller).flatten(1).sum(1) < health)[reached].all()
    assert reached.any()


def test_a_waterline_that_cannot_be_reached_is_infinite():
    assert waterline(torch.ones(1, 3), torch.ones(1, 3), torch.tensor([4.0])).isinf().all()


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": "3"}, {"random_starts": -1}, {"step_rule": "big"}])
def test_a_search_that_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        PgdL2.from_options(options)


def test_levels_say_that_they_are_root_mean_squares():
    assert [str(level) for level in PgdL2.from_options({"epsilon": ["1/255"]}).levels] == ["1/255 RMS of display range"]
    assert PgdL2.from_options({"epsilon": ["5 HU"]}).levels[0].unit == "HU"


def test_the_price_is_what_an_unbroken_model_costs(lab):
    model = lab.Linear(torch.full((2, 36), 1e-6), torch.tensor([5.0, 5.0]))
    classifier = lab.classifier(model, size=(6, 6), findings=2)
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 2), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = PgdL2.from_options({"levels": ["1/255", "2/255"], "steps": 4})
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=2)
