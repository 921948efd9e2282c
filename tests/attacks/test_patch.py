"""Patches: the best window of a linear model is exact; lesions are spared; noise of the same size is measured."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from robustbench_rad.attacks._windows import window_sides
from robustbench_rad.attacks.patch import Patch, best_windows, inside_windows, letters, percents
from robustbench_rad.errors import PlanError
from robustbench_rad.glyphs import glyphs

LADDER = ("2", "5", "12")


def all_windows(shape, sides):
    """Every window of the sides, ``(W, *shape)``."""
    starts = itertools.product(*(range(pixels - side + 1) for pixels, side in zip(shape, sides, strict=True)))
    return inside_windows(torch.tensor(list(starts))[None], sides, torch.Size(shape))[0, :, 0]


def worst_of_windows(model, images, side, sides, allowed=None):
    """``(N, 1)`` lowest margins over all windows filled with the ends of the range, in float64."""
    weight = model.weight.double()[0]
    push = side.double() * weight
    flat = images.flatten(1).double()
    gain = push.abs() * torch.where(push > 0, flat, 1 - flat)
    if allowed is not None:
        gain = gain * allowed.flatten(1)
    windows = all_windows(images.shape[2:], sides).flatten(1).double()
    best = (gain @ windows.T).amax(1, keepdim=True)
    return flat @ weight[:, None] + model.bias.double() - side.double() * best


@pytest.mark.parametrize("shape", [(9, 13), (4, 5, 6)], ids=["plane", "volume"])
@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_the_best_window_of_a_linear_model_is_exact(lab, shape, full):
    images = lab.images((300, 1, *shape), bits=8)
    model = lab.linear(images[0].numel())
    classifier = lab.classifier(model, size=shape)
    labels = lab.called(classifier, images)
    attack = Patch(levels=percents(*LADDER), full_search=LADDER if full else (), steps=2, places=2)
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels))
    rates = []
    for level in attack.levels:
        sides = window_sides(level.value / 100, torch.tensor([shape]))[0].tolist()
        worst = worst_of_windows(model, images, lab.side(labels), sides)
        flipped = (worst >= 0).float() != labels
        assert torch.equal((margins[level.name] >= 0).float() != labels, flipped)
        if full:
            torch.testing.assert_close(margins[level.name], worst.float(), rtol=1e-4, atol=1e-4)
            share = torch.tensor(sides).prod() / images[0].numel()
            torch.testing.assert_close(measured["patch_share", level.name, "finding-0"], share.expand(300))
        rates.append(flipped.float().mean())
        control = measured["control_flip", level.name, "finding-0"]
        margin = measured["control_margin", level.name, "finding-0"]
        assert torch.equal(control, ((margin >= 0).float() != labels[:, 0]).float())
        assert control.mean() < rates[-1]
    assert 0 < rates[0] < rates[-1]


def test_lesions_and_masks_are_never_covered(lab):
    images = lab.images((40, 1, 9, 13), bits=8)
    model = lab.linear(117)
    classifier = lab.classifier(model, size=(9, 13))
    labels = lab.called(classifier, images)
    lesion = torch.zeros_like(images, dtype=torch.bool)
    lesion[:20, :, 3:5, 4:6] = True
    batch = lab.batch(images, labels, lesion=lesion)
    spy = lab.SpyQuery(classifier)
    attack = Patch(levels=percents(5), steps=3, full_search=("5",), places=3)
    margins, _ = lab.attack(attack, classifier, batch, spy)
    rim = torch.zeros_like(lesion)
    rim[:20, :, 1:7, 2:8] = True
    worst = worst_of_windows(model, images, lab.side(labels), sides(5, (9, 13)), ~rim)
    torch.testing.assert_close(margins["5"], worst.float(), rtol=1e-4, atol=1e-4)
    for planes in spy.planes[2:]:
        before = images.repeat_interleave(len(planes) // 40, 0)
        covered = rim.repeat_interleave(len(planes) // 40, 0)
        assert torch.equal(planes[covered], before[covered])
        assert ((planes != before).flatten(1).sum(1) <= 6).all()
    everywhere = lab.batch(images, labels, lesion=torch.ones_like(lesion))
    (variant,) = attack.apply(everywhere, lab.SpyQuery(classifier), None).variants
    assert not variant.applicable.any()
    assert "lesion leaves no pixel" in variant.reason


def sides(percent, shape):
    return window_sides(percent / 100, torch.tensor([shape]))[0].tolist()


@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5)])
def test_windows_do_not_overlap_and_are_ranked(lab, shape):
    gain = lab.images((5, 1, *shape))
    size = [2] * len(shape)
    starts = best_windows(gain, size, 3)
    inside = inside_windows(starts, size, torch.Size(shape))
    assert inside.int().sum(1).max() == 1
    sums = (gain[:, None] * inside).flatten(2).sum(2)
    assert (sums[:, :-1] >= sums[:, 1:] - 1e-6).all()
    assert torch.equal(best_windows(gain, list(shape), 2)[:, 1], torch.zeros(5, len(shape), dtype=torch.int64))


def test_learned_pixels_beat_noise_and_the_first_filling_on_a_network(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=24, seed=5)
    batch = lab.batch(images, labels)
    worst = []
    for steps in (1, 60):
        attack = Patch(levels=percents(2, 5), steps=steps, full_search=("2", "5"))
        margins, measured = lab.attack(attack, classifier, batch)
        worst.append((lab.side(labels) * margins["5"]).mean())
        assert (lab.side(labels) * (margins["5"] - margins["2"]) <= 1e-6).all()
    assert worst[1] < worst[0]
    flipped = ((margins["5"] >= 0).float() != labels).float().mean()
    control = torch.stack([measured["control_flip", "5", f"finding-{k}"] for k in range(2)]).mean()
    assert flipped > control + 0.2
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, again = lab.attack(attack, classifier, batch.select(order))
    torch.testing.assert_close(shuffled["5"], margins["5"][order])
    torch.testing.assert_close(
        again["control_margin", "5", "finding-1"], measured["control_margin", "5", "finding-1"][order]
    )


def test_the_price_is_what_an_unbroken_model_costs(lab):
    model = lab.Linear(torch.full((1, 60), 1e-6), torch.tensor([5.0]))
    classifier = lab.classifier(model, size=(6, 10))
    images = lab.images((2, 1, 6, 10), bits=8)
    batch = lab.batch(images, torch.ones(2, 1), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = Patch(levels=percents(2, 5), steps=4)
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 2 * attack.passes(1)


def test_less_than_a_pixel_is_not_applicable(lab, calibrated):
    classifier, images, labels = calibrated(cases=2)
    attack = Patch(levels=percents(0.1, 2), steps=2)
    small, large = attack.apply(lab.batch(images, labels), lab.SpyQuery(classifier), None).variants
    assert not small.applicable.any()
    assert "less than one of 225 pixels" in small.reason
    assert large.applicable.all()
    assert Patch().self_test() == ""


@pytest.mark.parametrize("options", [{"levels": ["60 %"]}, {"levels": ["2 mm"]}, {"places": 0}, {"steps": True}])
def test_what_has_no_meaning_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        Patch.from_options(options)


@pytest.mark.parametrize("shape", [(20, 24), (5, 20, 24)], ids=["plane", "volume"])
def test_the_letter_fills_its_window_and_nothing_else(shape):
    start, side = [2, 3, 4][-len(shape) :], [3, 14, 10][-len(shape) :]
    windows = inside_windows(torch.tensor([[start]]), side, torch.Size(shape))
    drawn = letters(windows, torch.tensor([[start]]), side)
    assert drawn.shape == windows.shape
    assert not drawn[~windows].any()
    cut = drawn[0, 0, 0][tuple(slice(a, a + n) for a, n in zip(start, side, strict=True))]
    assert torch.equal(cut.reshape(-1, 14, 10)[0], glyphs()["R"].picture)
    assert (cut.reshape(-1, 14, 10) == cut.reshape(-1, 14, 10)[:1]).all()


def test_the_marker_control_is_the_worst_letter_at_the_places_of_the_patch(lab):
    images = lab.images((60, 1, 20, 24), bits=8)
    model = lab.linear(480)
    classifier = lab.classifier(model, size=(20, 24))
    labels = lab.called(classifier, images)
    attack = Patch(levels=percents(8), steps=1, places=3, full_search=("8",))
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    size, side = sides(8, (20, 24)), lab.side(labels)
    push = side[:, :, None, None] * model.weight.reshape(1, 1, 20, 24)
    gain = push.abs() * torch.where(push > 0, images, 1 - images)
    starts = best_windows(gain, size, 3)
    windows = inside_windows(starts, size, torch.Size((20, 24)))
    opacity = letters(windows, starts, size)
    planes = images[:, None] + opacity * (1 - images[:, None])
    health = (planes.flatten(2) @ model.weight[0] + model.bias) * side
    expected = health.amin(1) * side[:, 0]
    torch.testing.assert_close(measured["marker_margin", "8", "finding-0"], expected, rtol=1e-3, atol=2e-4)
    flips = ((measured["marker_margin", "8", "finding-0"] >= 0).float() != labels[:, 0]).float()
    assert torch.equal(measured["marker_flip", "8", "finding-0"], flips)
    assert flips.mean() < ((margins["8"] >= 0).float() != labels).float().mean()


def test_a_model_that_reads_letters_is_turned_by_the_letter_and_not_by_noise(lab):
    """Its score is the correlation with a white R anywhere: a shortcut, which a learned patch would find as well."""
    size = sides(16, (24, 24))
    letter = letters(torch.ones(1, 1, 1, *size, dtype=torch.bool), torch.zeros(1, 1, 2, dtype=torch.int64), size)[0, 0]

    class Reader(nn.Module):
        def forward(self, x):
            found = functional.conv2d(x, (letter - letter.mean())[None] / letter.sum())
            return found.flatten(1).amax(1, keepdim=True) * 20 - 3

    classifier = lab.classifier(Reader(), size=(24, 24))
    images = 0.2 + 0.05 * lab.images((12, 1, 24, 24))
    labels = torch.zeros(12, 1)
    attack = Patch(levels=percents(16), steps=40)
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels))
    assert (measured["marker_flip", "16", "finding-0"] == 1).all()
    assert (measured["control_flip", "16", "finding-0"] == 0).all()
    assert (margins["16"] >= 0).float().mean() > 0.5
