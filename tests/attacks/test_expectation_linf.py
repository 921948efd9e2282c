"""Random models: the mean decides, draws can be repeated, and a model that is not random is attacked as by PGD."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from robustbench_rad.attacks import _climb
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.expectation_linf import REPEATS, ExpectationLinf, is_stochastic
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.errors import PlanError
from robustbench_rad.query import CountingQuery

NAMES = ("2/255", "4/255")


class Noisy(nn.Module):
    """Another model whose answers are off by normal noise of a given size, different each time."""

    def __init__(self, inner, sd):
        super().__init__()
        self.inner, self.sd = inner, sd

    def forward(self, images):
        answers = self.inner(images)
        return answers + self.sd * torch.randn_like(answers)


class RandomWeights(nn.Module):
    """A linear model whose every weight is drawn anew for every image: gradients of single answers are mostly noise."""

    def __init__(self, inner, sd):
        super().__init__()
        self.inner, self.sd = inner, sd

    def forward(self, images):
        flat = images.flatten(1) - 0.5
        weight = self.inner.weight + self.sd * torch.randn(len(images), flat.shape[1])
        return (flat * weight).sum(1, keepdim=True) + 0.1


def attack(**options):
    return ExpectationLinf(**{"levels": ladder(*NAMES), "steps": 4, "random_starts": 1, "evaluations": 6, **options})


@pytest.mark.parametrize("full", [(), NAMES], ids=["to-the-flip", "full-search"])
def test_a_model_that_is_not_random_is_attacked_as_by_pgd(lab, calibrated, full, monkeypatch):
    monkeypatch.setattr(ExpectationLinf, "id", PgdLinf.id)  # the same draws for the random start
    classifier, images, labels = calibrated(findings=2, cases=8, seed=5)
    batch = lab.batch(images, labels, clean_margins=classifier.margins(images).detach())
    assert not is_stochastic(lab.SpyQuery(classifier), batch)
    spies = lab.SpyQuery(classifier), lab.SpyQuery(classifier)
    ours, measured = lab.attack(attack(full_search=full), classifier, batch, spies[0])
    pgd = PgdLinf(levels=ladder(*NAMES), steps=4, random_starts=1, full_search=full)
    theirs, measured_too = lab.attack(pgd, classifier, batch, spies[1])
    for name in NAMES:
        assert torch.equal(ours[name], theirs[name])
    for name, values in measured.items():
        torch.testing.assert_close(values, measured_too[name], rtol=0, atol=0, equal_nan=True)
    assert all(torch.equal(a, b) for a, b in zip(spies[0].planes[REPEATS:], spies[1].planes, strict=True))


def test_a_linear_model_under_noise_is_robust_where_the_box_form_says(lab):
    inner = lab.linear(64)
    images = lab.images((300, 1, 8, 8), bits=16, saturated=0.28)
    silent = lab.classifier(inner, size=(8, 8))
    labels, clean = lab.called(silent, images), silent.margins(images).detach()
    side, w, sd = lab.side(labels), inner.weight[0].double(), 0.3
    noisy = lab.classifier(Noisy(inner, sd), size=(8, 8))
    batch = lab.batch(images, labels, stored_bits=16, clean_margins=clean)
    assert is_stochastic(lab.SpyQuery(noisy), batch)
    margins, _ = lab.attack(attack(levels=ladder("4/255"), steps=2, random_starts=0, evaluations=8), noisy, batch)
    room = torch.where(side.double() * w > 0, images.flatten(1).double(), 1 - images.flatten(1).double())
    room = room.clamp(max=4 / 255)
    worst = side[:, 0].double() * clean[:, 0].double() - (w.abs() * room).sum(1)
    flipped = (margins["4/255"][:, 0] >= 0).float() != labels[:, 0]
    sure = worst.abs() > 5 * sd / 8**0.5  # of the mean; the others may fall either way
    assert sure.sum() > 200
    assert torch.equal(flipped[sure], (worst < 0)[sure])
    assert 20 < flipped.sum() < 280


def test_a_lucky_draw_is_no_flip(lab):
    """Noise of the size of the margin: single answers flip most calls, the mean of many and its confirmation none."""
    noisy = lab.classifier(Noisy(lab.Linear(torch.full((1, 16), 1e-6), torch.ones(1)), 1.0), size=(4, 4))
    batch = lab.batch(lab.images((15, 1, 4, 4)), torch.ones(15, 1), clean_margins=torch.ones(15, 1))
    single, _ = lab.attack(PgdLinf(levels=ladder("2/255"), steps=10), noisy, batch)
    assert (single["2/255"] < 0).float().mean() > 0.9
    mean, _ = lab.attack(attack(levels=ladder("2/255"), steps=5, evaluations=12, random_starts=0), noisy, batch)
    assert not (mean["2/255"] < 0).any()


def test_means_find_more_where_single_gradients_are_noise(lab):
    inner = lab.linear(64)
    classifier = lab.classifier(RandomWeights(inner, 4.0), size=(8, 8))
    images = 0.3 + 0.4 * lab.images((10, 1, 8, 8))
    flat = images.flatten(1) - 0.5
    clean = flat @ inner.weight.T.detach() + 0.1
    labels = (clean >= 0).float()
    batch = lab.batch(images, labels, stored_bits=16, clean_margins=clean)
    options = {"levels": ladder("8/255"), "full_search": ("8/255",), "steps": 6, "random_starts": 0}

    def expected_fall(condition):
        """Of the expected margin, over the last plane asked about of every case."""
        spy, rows = lab.SpyQuery(classifier), []
        for row in range(len(batch)):
            lab.attack(condition, classifier, batch.select(torch.tensor([row])), spy)
            rows.append(spy.planes[-1])
        change = (torch.cat(rows) - images).flatten(1)
        return -(lab.side(labels) * (change @ inner.weight.T.detach())).mean()

    torch.manual_seed(0)
    assert expected_fall(ExpectationLinf(**options, evaluations=30)) > 1.5 * expected_fall(PgdLinf(**options))


@pytest.fixture
def dropped(lab, calibrated):
    """A network with noise inside, and its images."""
    classifier, images, labels = calibrated(findings=2, cases=5, seed=2)
    module = nn.Sequential(*classifier.module[:-1], Noisy(nn.Identity(), 0.2), classifier.module[-1]).eval()
    labels[0, 0] = torch.nan
    clean = classifier.margins(images).detach()
    return lab.classifier(module, size=(15, 15), findings=2), lab.batch(images, labels, clean_margins=clean)


@pytest.mark.parametrize("full", [(), NAMES], ids=["to-the-flip", "full-search"])
def test_draws_belong_to_the_case_and_the_callers_random_state_is_left_alone(lab, dropped, full, monkeypatch):
    classifier, batch = dropped
    condition = attack(full_search=full, steps=3, evaluations=3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    reference, measured = lab.attack(condition, classifier, batch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    order = torch.tensor([4, 0, 2])
    some, measured_again = lab.attack(condition, classifier, batch.select(order))
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], some[name], equal_nan=True, rtol=1e-4, atol=1e-5)
    assert measured.keys() == measured_again.keys()
    climb = replace(Climb.of(condition, batch, lab.SpyQuery(classifier), None), compact_every=3)
    climb.run()
    monkeypatch.setattr(_climb, "MAX_ROW_PIXELS", 225 * 2)
    chunked, _ = lab.attack(condition, classifier, batch)
    for margins, lazily, in_chunks in zip(reference.values(), climb.record.margins, chunked.values(), strict=True):
        torch.testing.assert_close(margins, lazily, equal_nan=True)
        torch.testing.assert_close(margins, in_chunks, equal_nan=True)
    other, _ = lab.attack(condition, classifier, replace(batch, seeds=tuple(seed + 1 for seed in batch.seeds)))
    assert any(not torch.equal(reference[name].nan_to_num(), other[name].nan_to_num()) for name in NAMES)


def test_the_price_is_what_an_unbroken_random_model_costs(lab):
    inner = lab.Linear(torch.full((2, 36), 1e-6), torch.tensor([5.0, 5.0]))
    classifier = lab.classifier(Noisy(inner, 0.01), size=(6, 6), findings=2)
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 2), clean_margins=torch.full((3, 2), 5.0))
    query = CountingQuery(classifier)
    condition = attack(steps=3, evaluations=4)
    list(condition.apply(batch, query, None).variants)
    assert query.forwards + 2 * query.backwards == 3 * condition.passes(findings=2)


@pytest.mark.parametrize("options", [{"evaluations": 0}, {"evaluations": 2.5}, {"evaluations": True}, {"steps": 0}])
def test_a_mean_of_nothing_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        ExpectationLinf.from_options(options)
