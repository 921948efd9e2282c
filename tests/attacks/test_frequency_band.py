"""Frequency bands: nothing outside the band is touched, all of the band is used, in two and three dimensions."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.frequency_band import BANDS, SHARE, FrequencyBand, energy_share, in_band, kept
from robustbench_rad.conditions import Space
from robustbench_rad.errors import PlanError

FINE = 24  # bits
LADDER = ("1/255", "2/255", "4/255", "8/255")


def of_band(weight, shape, band):
    """The part of weights ``(K, P)`` in a band."""
    inside = in_band(shape, torch.full((1, len(shape)), 0.5), *BANDS[band])[:, None]
    return kept(weight.reshape(-1, 1, *shape), inside).flatten(1)


def banded(lab, band, size=(8, 8), seed=0):
    pixels = int(np.prod(size))
    weight = of_band(torch.randn(1, pixels, generator=torch.Generator().manual_seed(seed)), size, band)
    return lab.Linear(weight, -0.5 * weight.sum(1))


@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (4, 5, 6)])
def test_the_three_bands_are_all_frequencies_once(shape):
    spacing = torch.full((1, len(shape)), 0.5)
    bands = torch.stack([in_band(shape, spacing, *limits) for limits in BANDS.values()])
    assert (bands.sum(0) == 1).all()
    planes = torch.rand(3, 1, *shape)
    parts = [kept(planes, band[:, None]) for band in bands]
    torch.testing.assert_close(sum(parts), planes)
    shares = torch.stack([energy_share(planes, band[:, None]) for band in bands])
    torch.testing.assert_close(shares.sum(0), torch.ones(3))
    torch.testing.assert_close(energy_share(parts[1], bands[1][:, None]), torch.ones(3))
    torch.testing.assert_close(kept(parts[1], bands[1][:, None]), parts[1], atol=1e-6, rtol=0)


def test_a_wave_is_where_its_frequency_says():
    axis = torch.arange(32.0)
    wave = torch.cos(2 * torch.pi * 4 * axis / 32).expand(1, 1, 32, 32)  # 1/8 cycle per pixel: a quarter of Nyquist
    share = [energy_share(wave, in_band((32, 32), torch.full((1, 2), 0.5), *b)[:, None]).item() for b in BANDS.values()]
    assert share == pytest.approx([0, 1, 0], abs=1e-6)
    in_mm = in_band((32, 32), torch.tensor([[0.25, 0.25]]), 0.45, 0.55)[:, None]  # 1/8 per 0.25 mm: 0.5 per mm
    assert energy_share(wave, in_mm).item() == pytest.approx(1, abs=1e-6)
    assert energy_share(wave, in_band((32, 32), torch.tensor([[0.5, 0.5]]), 0.45, 0.55)[:, None]).item() < 1e-6


@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_with_all_frequencies_it_is_exact_where_the_box_form_says(lab, full):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((300, 1, 8, 8), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = FrequencyBand(levels=ladder(*LADDER), full_search=LADDER if full else (), bands=((0.0, 9.0),), steps=4)
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    side, w = lab.side(labels), model.weight[0].double()
    x, rates = images.flatten(1).double(), []
    for level in attack.levels:
        room = torch.where(side.double() * w > 0, x, 1 - x).clamp(max=level.value)
        worst = side[:, 0].double() * (x @ w + model.bias.double()) - (w.abs() * room).sum(1)
        flipped = (worst < 0) | ((worst == 0) & (side[:, 0] < 0))
        assert torch.equal((margins[level.name][:, 0] >= 0).float() != labels[:, 0], flipped)
        rates.append(flipped.float().mean().item())
    assert 0 < rates[0] < rates[-1]


def worst_in_band(weight, shape, band, radius):
    """Largest fall of ``w . c`` over changes of the band up to ``radius``: a linear programme."""
    pixels = weight.shape[1]
    inside = in_band(shape, torch.full((1, len(shape)), 0.5), *BANDS[band])[:, None]
    keep = kept(torch.eye(pixels).reshape(pixels, 1, *shape), inside).flatten(1).T.double().numpy()
    _, sizes, rows = np.linalg.svd(np.eye(pixels) - keep)
    outside = rows[sizes > 0.5]
    bounds = [(-radius, radius)] * pixels
    solved = linprog(weight[0].double().numpy(), A_eq=outside, b_eq=np.zeros(len(outside)), bounds=bounds)
    assert solved.success
    return -solved.fun


@pytest.mark.parametrize("band", list(BANDS))
@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5)])
def test_it_comes_near_the_exact_answer_of_the_linear_programme(lab, band, shape):
    model = lab.linear(int(np.prod(shape)), seed=3)
    best = worst_in_band(model.weight.detach(), shape, band, 8 / 255)
    classifier = lab.classifier(model, size=shape)
    images = 0.3 + 0.4 * lab.images((20, 1, *shape))
    labels = lab.called(classifier, images)
    attack = FrequencyBand(levels=ladder("8/255"), full_search=("8/255",), bands=(band,), steps=30)
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=FINE))
    falls = lab.side(labels) * (classifier.margins(images).detach() - margins["8/255"])
    assert (falls <= best * (1 + 1e-4)).all()
    assert (falls >= 0.85 * best).all()
    assert (measured[SHARE, "8/255", "finding-0"] > 0.999).all()


@pytest.mark.parametrize("band", list(BANDS))
def test_a_model_that_uses_another_band_is_never_flipped(lab, band):
    for used in BANDS:
        model = banded(lab, used)
        classifier = lab.classifier(model, size=(8, 8))
        images = 0.3 + 0.4 * lab.images((300, 1, 8, 8))
        labels = lab.called(classifier, images)
        attack = FrequencyBand(levels=ladder("32/255"), bands=(band,), steps=4, full_search=("32/255",))
        margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=FINE))
        clean = classifier.margins(images).detach()
        if used != band:
            torch.testing.assert_close(margins["32/255"], clean, rtol=0, atol=1e-4)
        else:
            flips = ((margins["32/255"] >= 0).float() != labels).float().mean()
            assert flips > 0.3


@pytest.mark.parametrize("used", list(BANDS))
def test_the_band_that_the_model_uses_is_named(lab, used):
    model = banded(lab, used)
    classifier = lab.classifier(model, size=(8, 8))
    images = 0.3 + 0.4 * lab.images((40, 1, 8, 8))
    labels = lab.called(classifier, images)
    attack = FrequencyBand(levels=ladder("16/255"), full_search=("16/255",), steps=4)
    assert attack.winner == "winner of low, mid, high"
    _, measured = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=FINE))
    assert (measured[attack.winner, "16/255", "finding-0"] == list(BANDS).index(used)).all()


def test_no_plane_leaves_the_ball_the_box_the_mask_or_the_grid(lab, calibrated):
    classifier, images, labels = calibrated(cases=2)
    anatomy = lab.images((2, 1, 15, 15), seed=3) > 0.5
    clean = classifier.margins(images).detach()
    batch = lab.batch(images, labels, anatomy=anatomy, clean_margins=clean)
    for mask in ("image", "anatomy"):
        spy = lab.SpyQuery(classifier)
        attack = FrequencyBand(levels=ladder("2/255", "5/255"), full_search=("2/255", "5/255"), mask=mask, steps=5)
        lab.attack(attack, classifier, batch, spy)
        for planes in spy.planes:
            assert (planes - images).abs().max() <= 5 / 255 + 1e-6
            assert planes.min() >= 0
            assert planes.max() <= 1
            assert mask == "image" or torch.equal(planes[~anatomy], images[~anatomy])
            torch.testing.assert_close(planes * 255, (planes * 255).round(), rtol=0, atol=1e-4)


def test_the_share_is_of_the_change_as_it_is_stored(lab, calibrated):
    """Rounding to grey levels is a change of all frequencies, and the smaller the radius the more of it there is."""
    classifier, images, labels = calibrated(cases=8)
    names = ("1/255", "4/255", "16/255")
    attack = FrequencyBand(levels=ladder(*names), full_search=names, bands=("low",), steps=8)
    _, measured = lab.attack(attack, classifier, lab.batch(images, labels))
    shares = [measured[SHARE, name, "finding-0"].nanmedian().item() for name in names]
    assert all(low < high for low, high in pairwise(shares))
    assert shares[-1] > 0.95
    assert shares[0] < 0.9


def test_a_network_is_flipped_more_with_every_level(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=20, seed=5)
    margins, _ = lab.attack(FrequencyBand(levels=ladder(*LADDER), steps=8), classifier, lab.batch(images, labels))
    flips = [int(((values >= 0).float() != labels).sum()) for values in margins.values()]
    assert flips == sorted(flips)
    assert flips[-1] > flips[0]


@pytest.mark.parametrize("full", [(), ("2/255", "4/255")], ids=["to-the-flip", "full-search"])
def test_order_and_companions_change_nothing(lab, calibrated, full):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    labels[0, 0], labels[1, 1] = torch.nan, 1 - labels[1, 1]
    batch = lab.batch(images, labels)
    attack = FrequencyBand(levels=ladder("2/255", "4/255"), full_search=full, steps=5)
    reference, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5])
    some, measured_again = lab.attack(attack, classifier, batch.select(order))
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], some[name], equal_nan=True, rtol=1e-4, atol=1e-4)
    assert measured.keys() == measured_again.keys()


def test_the_price_is_what_an_unbroken_model_costs(lab):
    classifier = lab.classifier(
        lab.Linear(torch.full((2, 36), 1e-6), torch.tensor([5.0, 5.0])), size=(6, 6), findings=2
    )
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 2), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = FrequencyBand(levels=ladder("1/255", "2/255"), steps=3, bands=("low", "high"))
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=2)


def test_cycles_per_mm_need_the_spacing(lab):
    classifier = lab.classifier(lab.linear(64), size=(8, 8))
    images = lab.images((3, 1, 8, 8))
    spacing = torch.tensor([[1.0, 1.0], [torch.nan, torch.nan], [0.1, 0.1]])
    batch = lab.batch(images, lab.called(classifier, images), spacing_mm=spacing)
    attack = FrequencyBand.from_options(
        {"epsilon": "4/255", "bands": [[0.2, 0.4]], "band_unit": "cycles/mm", "space": "stored"}
    )
    assert attack.works_in is Space.STORED
    assert attack.winner == "winner of 0.2-0.4 cycles/mm"
    (variant,) = attack.apply(batch, lab.SpyQuery(classifier), None).variants
    assert variant.applicable.tolist() == [True, False, False]  # unknown, and 8 pixels of 0.1 mm: 1.25 per mm at least
    assert "spacing is not known" in variant.reason
    assert variant.margins[1:].isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": "low"}, "bands: expected a list"),
        ({"bands": []}, "bands: expected a list"),
        ({"bands": ["lowest"]}, "bands: expected one of"),
        ({"bands": ["low", "low"]}, "bands: expected each band once"),
        ({"bands": [[0.3, 0.1]]}, "two limits from low to high"),
        ({"bands": [[0.1]]}, "two limits from low to high"),
        ({"bands": [[0.1, "x"]]}, "two limits from low to high"),
        ({"bands": [[0.1, float("nan")]]}, "two limits from low to high"),
        ({"bands": [3]}, "two limits from low to high"),
        ({"band_unit": "hertz"}, "band_unit: expected"),
        ({"band_unit": "cycles/mm"}, "space = 'stored'"),
        ({"steps": 0}, "steps: expected"),
    ],
)
def test_bands_that_hold_nothing_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        FrequencyBand.from_options(options)
