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
from robustbench_rad.attacks.apgd_l2 import ApgdL2
from robustbench_rad.attacks.apgd_linf import ApgdLinf
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.minimal_norm import MinimalNorm
from robustbench_rad.attacks.pgd_l2 import PgdL2
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.square_linf import SquareLinf
from robustbench_rad.audit import run_audit
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


def draws(seed, pixels=7):
    source = np.random.default_rng(seed)
    return np.abs(source.normal(size=pixels)), source.random(pixels)


@pytest.mark.parametrize("seed", range(5))
def test_the_exact_answers_are_those_of_a_linear_programme_a_brute_search_and_a_grid(seed):
    slope, room = draws(seed)
    for radius in (0.02, 0.1, 0.4, 2.0):
        best = linprog(-slope, bounds=[(0, min(r, radius)) for r in room])
        assert _sentinel.largest_drop("linf", radius, slope, room) == pytest.approx(-best.fun)
        best = linprog(-slope, A_ub=[np.ones(7)], b_ub=[7 * radius], bounds=[(0, r) for r in room])
        assert _sentinel.largest_drop("l1", radius, slope, room) == pytest.approx(-best.fun)
    for count in (1, 2, 5):
        best = max(sum(slope[list(chosen)] * room[list(chosen)]) for chosen in combinations(range(7), count))
        assert _sentinel.largest_drop("l0", count, slope, room) == pytest.approx(best)


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.3, 0.6])
def test_the_l2_answer_is_that_of_a_general_solver(radius):
    slope, room = draws(3)
    ball = {"type": "ineq", "fun": lambda d: 7 * radius**2 - d @ d}
    best = minimize(lambda d: -slope @ d, np.minimum(room, radius) / 2, bounds=[(0, r) for r in room], constraints=ball)
    assert best.success
    assert _sentinel.largest_drop("l2", radius, slope, room) == pytest.approx(-best.fun, rel=1e-4)


def test_the_planted_calls_are_right_on_both_sides_and_about_half_of_them_can_be_flipped():
    planted = _sentinel.plant(_sentinel.PLANE, _sentinel.CASES)
    labels = planted.batch.labels[:, 0]
    assert 8 <= int(labels.sum()) <= 24
    margins = planted.classifier.margins(planted.batch.images)[:, 0].detach()
    np.testing.assert_allclose((margins * (labels * 2 - 1)).numpy(), planted.clean, atol=1e-4)
    for norm, sizes in _sentinel.SIZES.items():
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
