"""The baseline: noise of the stated distributions, never better than an attack."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.noise import Noise, NoiseKind
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.square_linf import SquareLinf
from robustbench_rad.errors import PlanError

RADIUS = 16 / 255


def noise_of(lab, kind, image, draws=16):
    """Noise ``(draws, 1, ...)`` in radii, as the model was shown it."""
    size = image.shape[2:]
    classifier = lab.classifier(lab.Linear(torch.full((1, image.numel()), 1e-6), torch.ones(1)), size=size)
    spy = lab.SpyQuery(classifier)
    attack = Noise(levels=ladder("16/255"), draws=draws, kinds=(kind,), candidates=5)
    batch = lab.batch(image, torch.ones(1, 1), stored_bits=16, clean_margins=torch.ones(1, 1))
    lab.attack(attack, classifier, batch, spy)
    return (torch.cat(spy.planes[1:]) - image) / RADIUS


@pytest.mark.parametrize(
    ("kind", "standard_deviation", "at_the_edge"),
    [("gaussian", 0.4798, 0.0455), ("uniform", 3**-0.5, 0.0), ("corners", 1.0, 1.0), ("poisson", 0.4798, 0.0455)],
)
def test_noise_is_distributed_as_stated(lab, kind, standard_deviation, at_the_edge):
    noise = noise_of(lab, kind, torch.full((1, 1, 40, 50), 0.5))
    assert len(noise) == 16
    assert noise.abs().max() <= 1 + 1e-3
    assert abs(noise.mean()) < 0.02
    assert noise.std().item() == pytest.approx(standard_deviation, abs=0.01)
    assert (noise.abs() > 0.9995).float().mean().item() == pytest.approx(at_the_edge, abs=0.005)
    assert abs((noise[0] * noise[1]).mean()) < 0.08  # draws are not one another


def test_quantum_noise_grows_with_the_root_of_the_signal(lab):
    image = torch.tensor([0.1, 0.2, 0.4, 0.8]).repeat(50, 10).reshape(1, 1, 50, 40)
    noise = noise_of(lab, "poisson", image, draws=64)
    spread = torch.stack([noise[..., image[0, 0, 0] == value].std() for value in (0.1, 0.2, 0.4)])
    torch.testing.assert_close(spread, 0.5 * torch.tensor([1 / 8, 1 / 4, 1 / 2]).sqrt(), rtol=0.03, atol=0)


def test_kinds_take_turns_and_levels_share_draws(lab):
    image = torch.full((1, 1, 9, 11), 0.5)
    classifier = lab.classifier(lab.Linear(torch.full((1, 99), 1e-6), torch.ones(1)), size=(9, 11))
    spy = lab.SpyQuery(classifier)
    attack = Noise(levels=ladder("8/255", "16/255"), draws=6, candidates=4)
    batch = lab.batch(image, torch.ones(1, 1), stored_bits=16, clean_margins=torch.ones(1, 1))
    lab.attack(attack, classifier, batch, spy)
    at_8, at_16 = (torch.cat(spy.planes[first : first + 2]) - image for first in (1, 3))
    torch.testing.assert_close(2 * at_8, at_16, rtol=0, atol=4 / 65535)
    corners = [bool((plane.abs() > 7.99 / 255).all()) for plane in at_8]
    assert corners == [kind is NoiseKind.CORNERS for kind in (*NoiseKind, *NoiseKind)][:6]


def test_the_size_of_a_pass_changes_no_worst_margin(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6)
    batch = lab.batch(images, labels)
    attack = Noise(levels=ladder("4/255"), draws=10, full_search=("4/255",))
    results = [lab.attack(replace(attack, candidates=many), classifier, batch)[0] for many in (1, 3, 64)]
    for other in results[1:]:
        torch.testing.assert_close(results[0]["4/255"], other["4/255"])


def test_more_draws_find_more_and_attacks_beat_them(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=24, seed=5)
    batch = lab.batch(images, labels)
    options = {"levels": ladder("4/255"), "full_search": ("4/255",)}

    def healths(attack):
        return lab.side(labels) * lab.attack(attack, classifier, batch)[0]["4/255"]

    few, many = healths(Noise(draws=4, **options)), healths(Noise(draws=64, **options))
    assert (many <= few + 1e-6).all()
    assert (many < few).any()
    assert (healths(PgdLinf(**options)) <= many).all()
    assert (healths(SquareLinf(queries=200, **options)) <= many).float().mean() > 0.95


def test_no_noise_beats_the_exact_answer_of_a_linear_model(lab):
    model = lab.linear(63)
    classifier = lab.classifier(model, size=(7, 9))
    images = lab.images((300, 1, 7, 9), bits=8, saturated=0.2)
    labels = lab.called(classifier, images)
    names = ("1/255", "2/255", "4/255")
    options = {"levels": ladder(*names), "full_search": names}
    noise, _ = lab.attack(Noise(**options), classifier, lab.batch(images, labels))
    exact, _ = lab.attack(Fgsm(**options), classifier, lab.batch(images, labels))
    for name in names:
        assert (lab.side(labels) * (noise[name] - exact[name]) >= -1e-5).all()
    assert ((noise["4/255"] >= 0).float() != labels).any()


@pytest.mark.parametrize(
    "options",
    [
        {"draws": 0},
        {"draws": 1.5},
        {"draws": True},
        {"candidates": 0},
        {"kinds": []},
        {"kinds": ["pink"]},
        {"kinds": "gaussian"},
    ],
)
def test_noise_that_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        Noise.from_options(options)
