"""Markers: the whole grid is tried, sizes are kept, lesions are spared, small letters can be read."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.attacks.marker import NAMES, Marker, marker_sizes
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.glyphs import coverage, glyphs


def drawn(images, name, row, column, intensity, size):
    """Images with one marker."""
    opacity = coverage(glyphs()[name], torch.tensor([[row, column]]), size, images.shape[2:])[:, 0]
    return images + opacity * (intensity - images)


@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_the_worst_of_the_whole_grid_is_found(lab, full):
    images = lab.images((300, 1, 18, 22), bits=8)
    model = lab.linear(18 * 22)
    classifier = lab.classifier(model, size=(18, 22))
    labels, names = lab.called(classifier, images), ("10", "30")
    attack = Marker(levels=marker_sizes("10 %", "30 %"), places=3, full_search=names if full else ())
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels))
    side, rates = lab.side(labels)[:, 0], []
    worst = side * classifier.margins(images).detach()[:, 0]
    for level in attack.levels:
        size = torch.full((300, 2), level.value * 18 / 100)
        glyph = torch.full((300,), -1.0)
        for number, name in enumerate(NAMES):
            for row in (0.0, 1.0) if name == "text" else (0.0, 0.5, 1.0):
                for column in (0.0, 0.5, 1.0):
                    for intensity in (1.0, 0.6):
                        planes = (drawn(images, name, row, column, intensity, size) * 255).round() / 255
                        health = side * classifier.margins(planes).detach()[:, 0]
                        glyph = torch.where(health < worst, float(number), glyph)
                        worst = torch.minimum(worst, health)
        flipped = (worst < 0) | ((worst == 0) & (side < 0))
        assert torch.equal((margins[level.name][:, 0] >= 0).float() != labels[:, 0], flipped)
        if full:
            torch.testing.assert_close(side * margins[level.name][:, 0], worst, rtol=1e-4, atol=1e-4)
            found = measured["worst_glyph", level.name, "finding-0"]
            assert ((found == glyph) | (glyph < 0)).float().mean() > 0.98  # ties of float32 sums
        rates.append(flipped.float().mean())
    assert 0 < rates[0] < rates[-1]


def test_sizes_are_millimetres_and_places_keep_the_glyph_inside():
    size = torch.tensor([[14.0, 14.0], [7.0, 14.0]])
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]])
    opacity = coverage(glyphs()["L"], corners, size, (40, 60))[:, :, 0]
    rows, columns = opacity.amax(3) > 0.4, opacity.amax(2) > 0.4
    assert rows.sum(2)[:, :2].tolist() == [[14, 14], [7, 7]]  # in the middle it lies between pixels
    assert columns.sum(2).tolist() == [[10] * 3, [10] * 3]
    assert rows[0, 0, 0]
    assert columns[0, 0, 0]
    assert rows[0, 1, -1]
    assert columns[0, 1, -1]
    assert opacity.min() >= 0
    assert opacity.max() <= 1 + 1e-6
    stem, foot = opacity[0, 0, :10, :2], opacity[0, 0, 12:14, :10]
    assert stem.min() > 0.7
    assert foot.min() > 0.7
    assert opacity[0, 0, :10, 4:].max() == 0
    huge = coverage(glyphs()["tube"], corners, torch.full((1, 2), 30.0), (40, 60))
    assert (huge.flatten(2).sum(2) > 0).all()


def test_a_marker_of_one_size_is_the_same_share_at_any_resolution():
    for name, glyph in glyphs().items():
        shares = [
            coverage(glyph, torch.tensor([[0.5, 0.5]]), torch.full((1, 2), side / 8), (side, side)).mean()
            for side in (64, 256)
        ]
        torch.testing.assert_close(shares[0], shares[1], rtol=0.1, atol=0, msg=name)


def test_millimetres_need_a_spacing_and_lesions_are_spared(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=8, seed=5)
    lesion = torch.zeros_like(images, dtype=torch.bool)
    lesion[:, :, 6:9, 6:9] = True
    spacing = torch.full((8, 2), 2.0)
    spacing[0] = torch.nan
    batch = lab.batch(images, labels, lesion=lesion, spacing_mm=spacing)
    attack = Marker(levels=marker_sizes("8 mm"), places=3, full_search=("8",))
    spy = lab.SpyQuery(classifier)
    (variant,) = attack.apply(batch, spy, None).variants
    assert variant.applicable.tolist() == [False] + [True] * 7
    assert "spacing is not known" in variant.reason
    rim = torch.zeros(15, 15, dtype=torch.bool)
    rim[4:11, 4:11] = True
    inside = images[:, 0, rim]
    for planes in spy.planes[2:]:
        assert all((inside == plane[0, rim]).all(1).any() for plane in planes)
    margins, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, again = lab.attack(replace(attack, candidates=5), classifier, batch.select(order))
    torch.testing.assert_close(shuffled["8"], margins["8"][order], equal_nan=True)
    torch.testing.assert_close(
        again["worst_row", "8", "finding-0"], measured["worst_row", "8", "finding-0"][order], equal_nan=True
    )
    assert ((margins["8"] >= 0).float() != labels)[1:].float().mean() > 0.1


def test_the_price_is_what_an_unbroken_model_costs(lab):
    model = lab.Linear(torch.full((1, 60), 1e-6), torch.tensor([5.0]))
    classifier = lab.classifier(model, size=(6, 10))
    images = lab.images((2, 1, 6, 10), bits=8)
    batch = lab.batch(images, torch.ones(2, 1), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = Marker(places=2)
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 2 * attack.passes(1)


def test_volumes_are_refused_with_the_reason(lab):
    classifier = lab.classifier(lab.linear(60), size=(3, 4, 5))
    batch = lab.batch(lab.images((2, 1, 3, 4, 5)), torch.ones(2, 1))
    with pytest.raises(DataError, match="projection images"):
        Marker().apply(batch, lab.SpyQuery(classifier), None)
    assert Marker().self_test() == ""


@pytest.mark.parametrize(
    "options",
    [
        {"levels": [5]},
        {"levels": ["5 HU"]},
        {"levels": ["0 mm"]},
        {"glyphs": ["X"]},
        {"glyphs": "L"},
        {"glyphs": []},
        {"glyphs": ["L", "L"]},
        {"places": 0},
        {"candidates": 1.5},
        {"intensities": [2]},
        {"intensities": []},
        {"intensities": 1},
    ],
)
def test_what_has_no_meaning_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        Marker.from_options(options)
