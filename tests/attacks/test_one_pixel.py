"""Few pixels by differential evolution: exact on linear models, and true to the published step."""

from types import SimpleNamespace

import pytest
import torch

from robustbench_rad.attacks.one_pixel import FewPixelEvolution, anew, mutated, planes_of
from robustbench_rad.errors import PlanError


def greedy_worst(model, images, side, pixels):
    """``(N, 1)`` worst margins of a linear model when that many pixels may take any value, in float64."""
    x, w = images.flatten(1).double(), model.weight.double()
    room = torch.where(side.double() * w > 0, x, 1 - x)
    loss = (w.abs() * room).topk(pixels, dim=1).values.sum(1, keepdim=True)
    return x @ w.T + model.bias.double() - side.double() * loss


@pytest.mark.parametrize("shape", [(3, 5), (2, 2, 4)], ids=["plane", "volume"])
def test_one_pixel_of_a_linear_model_is_the_one_with_most_weight_times_room(lab, shape):
    model = lab.linear(torch.Size(shape).numel())
    classifier = lab.classifier(model, size=shape)
    images = lab.images((300, 1, *shape), bits=8, saturated=0.2)
    labels = lab.called(classifier, images)
    attack = FewPixelEvolution.from_options({"levels": [1], "evaluations": 2000, "full_search": ["1"]})
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels))
    worst = greedy_worst(model, images, lab.side(labels), 1)
    torch.testing.assert_close(margins["1"], worst.float(), rtol=1e-4, atol=1e-4)
    flipped = (worst >= 0).float() != labels
    assert 0 < flipped.float().mean() < 1
    assert torch.equal((margins["1"] >= 0).float() != labels, flipped)


def test_more_pixels_come_near_to_the_greedy_answer_and_never_beyond(lab):
    model = lab.linear(15)
    classifier = lab.classifier(model, size=(3, 5))
    images = lab.images((300, 1, 3, 5), bits=8)
    labels = lab.called(classifier, images)
    names = ("1", "2", "3")
    attack = FewPixelEvolution.from_options({"levels": names, "evaluations": 2000, "full_search": names})
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels))
    for pixels, name in enumerate(names, start=1):
        worst = greedy_worst(model, images, lab.side(labels), pixels).float()
        clean = classifier.margins(images).detach()
        excess = lab.side(labels) * (margins[name] - worst)
        assert excess.min() > -1e-4
        assert (excess / (lab.side(labels) * (clean - worst))).mean() < 0.01
        assert (excess < 1e-4).float().mean() > 0.75


def test_a_default_search_finds_the_speck_a_call_hangs_on(lab):
    weight = torch.zeros(1, 20 * 30)
    spot = torch.zeros(20, 30)
    spot[11:17, 20:28] = 1.0
    weight[0] = -4 * spot.flatten()
    classifier = lab.classifier(lab.Linear(weight, torch.tensor([1.0 + 4 * 48 * 0.2])), size=(20, 30))
    images = torch.full((12, 1, 20, 30), 0.2)
    margins, measured = lab.attack(
        FewPixelEvolution.from_options({"levels": [1]}), classifier, lab.batch(images, torch.ones(12, 1))
    )
    assert (margins["1"] < 0).all()
    assert measured["steps_to_flip", "1", "finding-0"].max() < 400


def test_a_child_is_one_other_plus_half_the_difference_of_two_others():
    people = torch.rand(2, 6, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    draws = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(1))
    children = mutated(people, draws, torch.full_like(people, torch.nan))
    for target in range(2):
        for seat in range(6):
            order = [other for other in draws[target, seat].argsort().tolist() if other != seat][:3]
            one, two, three = people[target, order]
            torch.testing.assert_close(children[target, seat], one + (two - three) / 2)


def test_a_place_outside_is_drawn_anew_and_a_value_is_clipped():
    people = torch.tensor([0.0, 0.9, 1.0, 0.0]).reshape(1, 4, 1, 1).repeat(1, 1, 1, 2)
    draws = torch.tensor([[[0.0, 1.0, 0.5, 2.0]]])  # of the first individual: 2, then 1, then 3
    child = mutated(people, draws, torch.full((1, 1, 1, 2), 0.3))
    torch.testing.assert_close(child, torch.tensor([[[[0.3, 1.0]]]]))


def test_places_cover_every_pixel_and_later_pixels_win():
    centre = torch.full((1, 1, 2, 3, 4), 0.5)
    whole = torch.tensor([[2, 3, 4]])
    front = SimpleNamespace(
        live=SimpleNamespace(centre=centre),
        threat=SimpleNamespace(allowed=None),
        own={"first": torch.zeros_like(whole), "extents": whole},
    )
    people = anew(torch.rand(1, 2000, 1, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    changed = planes_of(people, front) != 0.5
    assert (changed.flatten(2).sum(2) == 1).all()
    assert (changed.sum(1) > 40).all()
    assert set(people[..., -1].unique().tolist()) == {0.0, 1.0}
    twice = torch.tensor([[[[1.0, 1.0, 1.0, 0.25], [1.0, 1.0, 1.0, 0.75]]]])
    plane = planes_of(twice, front)
    assert plane[0, 0, 0, 1, 2, 3] == 0.75
    assert (plane != 0.5).sum() == 1


def test_a_network_flips_by_more_pixels_more_often(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=16, seed=5)
    attack = FewPixelEvolution.from_options({"levels": [1, 5, 20]})
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels))
    rates = [((margins[name] >= 0).float() != labels).float().mean().item() for name in ("1", "5", "20")]
    assert 0 < rates[0] < rates[2]
    assert rates[0] <= rates[1] <= rates[2]
    assert rates[2] > 0.5


def test_more_pixels_than_the_image_has_are_all_of_them(lab):
    classifier = lab.classifier(lab.linear(4), size=(2, 2))
    images = lab.images((3, 1, 2, 2), bits=8)
    attack = FewPixelEvolution.from_options({"levels": [4, 9], "evaluations": 60, "full_search": ["4", "9"]})
    margins, _ = lab.attack(attack, classifier, lab.batch(images, lab.called(classifier, images)))
    assert margins["9"].isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {"levels": [0]},
        {"levels": [1.5]},
        {"levels": ["1 %"]},
        {"levels": [3, 1]},
        {"levels": ["nan"]},
        {"evaluations": 0},
        {"evaluations": True},
        {"population": 3},
        {"population": 8.0},
    ],
)
def test_a_search_that_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        FewPixelEvolution.from_options(options)
