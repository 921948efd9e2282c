"""The positive control: planted linear models whose answer is known, and attacks that do not find it."""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from robustbench_rad.attacks import _sentinel
from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._sentinel_answers import band_peak, chance_beneath, in_band, largest_drop, largest_window
from robustbench_rad.attacks.apgd_l2 import ApgdL2
from robustbench_rad.attacks.apgd_linf import ApgdLinf
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.frequency_band import FrequencyBand, kept
from robustbench_rad.attacks.frequency_band import in_band as half_spectrum
from robustbench_rad.attacks.minimal_norm import MinimalNorm
from robustbench_rad.attacks.noise import Noise, noisy
from robustbench_rad.attacks.patch import Patch, inside_windows
from robustbench_rad.attacks.pgd_l2 import PgdL2
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.square_linf import SquareLinf
from robustbench_rad.attacks.universal_linf import UniversalLinf
from robustbench_rad.audit import run_audit
from robustbench_rad.conditions import Space
from robustbench_rad.errors import PlanError
from robustbench_rad.plan import read_plan
from robustbench_rad.preflight_items import sentinel_items, unsolved
from robustbench_rad.result import Verdict
from robustbench_rad.shortcuts.masked_anatomy import MaskedAnatomy

SOLVERS = [
    Fgsm(),
    PgdLinf(),
    PgdL2(),
    ApgdLinf(),
    ApgdL2(),
    SquareLinf(),
    *(MinimalNorm(norm=norm) for norm in ("linf", "l2", "l1", "l0")),
]


@pytest.mark.parametrize("attack", SOLVERS, ids=lambda a: f"{a.id}-{_sentinel.norm_of(a)}")
def test_our_attacks_solve_it_whatever_their_levels_and_masks(attack):
    assert attack.self_test() == ""
    assert attack.flips_linear >= 0.5
    if _sentinel.norm_of(attack) == "linf":
        other = replace(attack, levels=(type(attack).level("5 HU"),), mask="lesion-protected", attack_space="stored")
        assert other.self_test() == ""


OTHER_ANSWERS = [Patch(), UniversalLinf(), FrequencyBand(), FrequencyBand(bands=((0.3, 0.4),)), Noise()]


@pytest.mark.parametrize("attack", OTHER_ANSWERS, ids=lambda a: a.id)
def test_patches_patterns_bands_and_noise_have_answers_of_their_own(attack):
    assert attack.self_test() == ""
    assert attack.flips_linear >= 0.75 or isinstance(attack, Noise)


@pytest.mark.parametrize("attack", [*SOLVERS, Patch(), FrequencyBand(), Noise()], ids=lambda a: a.id)
def test_what_works_on_the_file_solves_it_through_resizing(attack):
    assert replace(attack, attack_space="stored").self_test() == ""


@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5)])
def test_stored_cases_have_the_health_that_is_planted(shape):
    planted = _sentinel.plant(shape, 12, space=Space.STORED)
    assert planted.batch.images.shape[2:] == shape
    assert planted.classifier.input.size == (*shape[:-2], 2 * shape[-2], 2 * shape[-1])
    margins = planted.query().margins(planted.batch.images)[:, 0]
    np.testing.assert_allclose(margins.numpy() * planted.side, planted.clean, atol=1e-4)
    other = (planted.batch.images + 0.01).clamp(0, 1)
    moved = (other - planted.batch.images).flatten(1).double().numpy() @ planted.weight
    np.testing.assert_allclose((planted.query().margins(other)[:, 0] - margins).numpy(), moved, atol=1e-4)


def draws(seed, pixels=7):
    source = np.random.default_rng(seed)
    return np.abs(source.normal(size=pixels)), source.random(pixels)


@pytest.mark.parametrize("seed", range(5))
def test_the_exact_answers_are_those_of_a_linear_programme_a_brute_search_and_a_grid(seed):
    slope, room = draws(seed)
    for radius in (0.02, 0.1, 0.4, 2.0):
        best = linprog(-slope, bounds=[(0, min(r, radius)) for r in room])
        assert largest_drop("linf", radius, slope, room) == pytest.approx(-best.fun)
        best = linprog(-slope, A_ub=[np.ones(7)], b_ub=[7 * radius], bounds=[(0, r) for r in room])
        assert largest_drop("l1", radius, slope, room) == pytest.approx(-best.fun)
    for count in (1, 2, 5):
        best = max(sum(slope[list(chosen)] * room[list(chosen)]) for chosen in combinations(range(7), count))
        assert largest_drop("l0", count, slope, room) == pytest.approx(best)


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.3, 0.6])
def test_the_l2_answer_is_that_of_a_general_solver(radius):
    slope, room = draws(3)
    ball = {"type": "ineq", "fun": lambda d: 7 * radius**2 - d @ d}
    best = minimize(lambda d: -slope @ d, np.minimum(room, radius) / 2, bounds=[(0, r) for r in room], constraints=ball)
    assert best.success
    assert largest_drop("l2", radius, slope, room) == pytest.approx(-best.fun, rel=1e-4)


@pytest.mark.parametrize(("shape", "sides"), [((5, 6), (2, 3)), ((3, 4, 5), (2, 1, 3))])
def test_the_answer_of_a_patch_is_that_of_every_window(shape, sides):
    gain = np.random.default_rng(1).random(shape)
    starts = np.ndindex(*(n - side + 1 for n, side in zip(shape, sides, strict=True)))
    sums = [gain[tuple(slice(a, a + n) for a, n in zip(start, sides, strict=True))].sum() for start in starts]
    assert largest_window(gain, sides) == pytest.approx(max(sums))


@pytest.mark.parametrize("band", [(0.0, 0.25), (0.25, 0.5), (0.5, 2.0)])
def test_the_answer_of_a_band_is_reached_by_a_change_of_the_band_and_by_no_other_drawn(band):
    weight = np.random.default_rng(2).normal(size=(6, 7))
    peak = band_peak(weight, in_band((6, 7), *band))
    inside = half_spectrum((6, 7), torch.full((1, 2), 0.5), *band)[:, None]
    changes = torch.randn(2000, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    changes = kept(
        changes + torch.linspace(0, 20, 2000)[:, None, None, None] * torch.from_numpy(weight).float(), inside
    )
    changes = changes / changes.abs().amax((1, 2, 3), keepdim=True)
    reached = (changes[:, 0].double() * torch.from_numpy(weight)).sum((1, 2)).max()
    assert 0.5 * peak < reached <= peak * (1 + 1e-6)
    assert peak <= np.abs(weight).sum()
    assert band_peak(weight, in_band((6, 7), 0.0, 3.0)) == pytest.approx(np.abs(weight).sum())
    assert band_peak(weight, np.zeros((6, 7), bool)) == 0


@pytest.mark.parametrize("kind", ["gaussian", "uniform", "corners", "poisson"])
def test_the_chance_of_noise_is_that_of_many_draws(kind):
    source = np.random.default_rng(3)
    images = source.integers(0, 256, (6, 42)) / 255
    push, radius = source.normal(size=(6, 42)), 24 / 255
    beneath = np.linspace(-0.1, -1.0, 6)
    noise = {
        "uniform": lambda size: source.uniform(-1, 1, size),
        "corners": lambda size: source.choice([-1.0, 1.0], size),
    }.get(kind, lambda size: source.normal(0, 0.5, size))((20000, 6, 42))
    noise = noise * (np.sqrt(images / images.max(1, keepdims=True)) if kind == "poisson" else 1)
    planes = np.round(np.clip(images + radius * np.clip(noise, -1, 1), 0, 1) * 255) / 255
    found = ((planes - images) * push).sum(2)
    once = chance_beneath(images, push, beneath, radius, kinds=[kind], draws=1, levels=255)
    np.testing.assert_allclose(once, (found < beneath).mean(0), atol=0.012)
    twice = chance_beneath(images, push, beneath, radius, kinds=[kind], draws=2, levels=255)
    np.testing.assert_allclose(twice, 1 - (1 - once) ** 2, atol=1e-12)


def test_the_planted_calls_are_right_on_both_sides_and_about_half_of_them_can_be_flipped():
    planted = _sentinel.plant(_sentinel.PLANE, _sentinel.CASES)
    labels = planted.batch.labels[:, 0]
    assert 8 <= int(labels.sum()) <= 24
    margins = planted.classifier.margins(planted.batch.images)[:, 0].detach()
    np.testing.assert_allclose((margins * (labels * 2 - 1)).numpy(), planted.clean, atol=1e-4)
    for norm in ("linf", "l2", "l1", "l0"):
        sizes = _sentinel.SIZES[norm]
        shares = [(planted.worst(norm, size) < 0).mean() for size in sizes]
        assert min(abs(share - 0.5) for share in shares) < 0.3, norm


@dataclass(frozen=True, kw_only=True)
class Base(LinfAttack):
    id: ClassVar[str] = "attack.test"
    version: ClassVar[int] = 1
    flips_linear: ClassVar[float] = 1.0

    @property
    def passes_per_level(self):
        return 1.0


class Idle(Base):
    def search(self, front, level):
        front.score(front.live.centre)


class Uphill(Base):
    def search(self, front, level):
        front.score(front.threat.project(front.live.centre + front.live.centre_slope))


class Outside(Base):
    """Walks twice the radius: what a library does whose norms are mixed up."""

    def search(self, front, level):
        front.score(front.live.centre - 2 * front.threat.radii() * front.live.centre_slope)


class BoxForgotten(Base):
    def search(self, front, level):
        front.score(front.live.centre - front.threat.radii() * front.live.centre_slope)


class OneDirection(Base):
    """Hides, and never creates: what a cross-entropy with the label 0 on one logit does."""

    def search(self, front, level):
        planes = front.threat.project(front.live.centre - front.threat.radii() * front.live.centre_slope)
        present = (front.live.targets.side > 0).reshape(-1, 1, *[1] * (planes.ndim - 2))
        front.score(torch.where(present, planes, front.live.centre))


class WiderPatch(Patch):
    """One row more than it may cover."""

    def _sides(self, front):
        first, *others = super()._sides(front)
        return [first + 1, *others]


class PatchAnywhere(Patch):
    """In the first corner, wherever it hurts most."""

    def _windows(self, front, many):
        _, starts, ends = super()._windows(front, many)
        corner = inside_windows(starts * 0, self._sides(front), front.live.centre.shape[2:])
        return corner, starts * 0, ends


class EveryFrequency(FrequencyBand):
    def _band(self, band, shape, batch):
        return torch.ones_like(super()._band(band, shape, batch))


class LearnsNothing(UniversalLinf):
    def _learn(self, cases, finding, side, query, device):
        return torch.zeros_like(super()._learn(cases, finding, side, query, device))


class WeakNoise(Noise):
    def search(self, front, level):
        front.threat = replace(front.threat, radius=front.threat.radius / 2)
        super().search(front, level)


class StrongNoise(Noise):
    """Corners of its ball, whatever kind was asked for."""

    def search(self, front, level):
        for number in range(self.draws):
            front.score(noisy(front, "corners", number))
        front.compact()


class BlindToTheFile(Base):
    """Takes the picture that the model is shown for the one in the file: the slope of another place."""

    def search(self, front, level):
        slope = front.live.centre_slope.flip(-1)
        front.score(front.threat.project(front.live.centre - front.threat.radii() * slope.sign()))


class NotInVolumes(Base):
    def search(self, front, level):
        if front.live.centre.ndim == 5:
            raise IndexError("5-D")
        front.score(front.threat.project(front.live.centre - front.threat.radii() * front.live.centre_slope))


class RefusedInVolumes(NotInVolumes):
    def search(self, front, level):
        if front.live.centre.ndim == 5:
            raise PlanError("volumes have no such thing")
        super().search(front, level)


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (Idle(), "it flipped 0; expected all"),
        (Uphill(), "it flipped 0; expected all"),
        (Outside(), "beyond the worst that its threat allows"),
        (BoxForgotten(), "beyond the worst that its threat allows"),
        (OneDirection(), "expected all"),
        (NotInVolumes(), "3 x 4 x 5 pixels: IndexError: 5-D"),
        (PgdLinf(steps=2, random_starts=0, step_rule="constant"), "expected all"),
        (WiderPatch(steps=2), "beyond the worst that its threat allows"),
        (PatchAnywhere(steps=2), "expected all"),
        (EveryFrequency(), "beyond the worst that its threat allows"),
        (LearnsNothing(), "it flipped 0; expected all"),
        (WeakNoise(), "chance finds a worse image"),
        (StrongNoise(), "chance finds a worse image"),
        (BlindToTheFile(attack_space="stored"), "expected all"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Attack) else "",
)
def test_a_broken_attack_is_found_out(attack, said):
    assert said in attack.self_test()


def test_an_attack_may_refuse_volumes_but_not_planes():
    assert RefusedInVolumes().self_test() == ""


def test_a_random_search_need_not_find_everything_but_nothing_at_all_is_too_little():
    class Some(OneDirection):
        flips_linear = 0.25

    assert Some().self_test() == ""


def test_the_control_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    PgdLinf().self_test()
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_preflight_tells_who_solved_it_and_who_did_not():
    items = list(sentinel_items([Fgsm(), Idle(), MaskedAnatomy()]))
    assert [(item.name, item.status) for item in items] == [
        ("attack sentinel: attack.test", "error"),
        ("attack sentinel", "ok"),
    ]
    assert "attack.fgsm" in items[1].detail
    assert list(unsolved(items)) == ["attack.test"]
    assert unsolved(items)["attack.test"].startswith("not trustworthy: attack.test, on a planted linear model")
    assert list(sentinel_items([MaskedAnatomy()])) == []


def test_an_audit_believes_no_attack_that_fails_its_control_in_the_run_itself(workshop, monkeypatch):
    plan = read_plan(workshop / "plan.toml")
    good = run_audit(plan, folder=workshop / "good").result
    (item,) = [item for item in good.preflight if item.name == "attack sentinel"]
    assert item.status == "ok"
    monkeypatch.setattr(Fgsm, "search", Idle.search)
    result = run_audit(plan, folder=workshop / "bad").result
    assert [item.status for item in result.preflight if item.name == "attack sentinel: attack.fgsm"] == ["error"]
    withstood = [criterion for criterion in result.criteria if criterion.check == "attack.fgsm"]
    assert withstood
    assert Verdict.PASS not in {criterion.verdict for criterion in withstood}
    assert result.verdict is not Verdict.PASS
