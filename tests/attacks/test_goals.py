"""Goals about several findings: what each means, exact answers on linear heads, exclusive classes."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from robustbench_rad.attacks._goals import Aim, Goal, Goals, Reading
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.clinical_goals import THRESHOLD, ClinicalGoals
from robustbench_rad.classifier import Head
from robustbench_rad.errors import PlanError
from robustbench_rad.query import CountingQuery

F = ("finding-0", "finding-1", "finding-2")


def reading(labels, clean, cutoff=None):
    labels, clean = torch.tensor(labels), torch.tensor(clean)
    none = torch.full((clean.shape[1],), torch.nan)
    return Reading(
        labels=labels, clean=clean, threshold=torch.zeros(clean.shape[1]), cutoff=none if cutoff is None else cutoff
    )


def reached(goals, margins):
    return goals.wrong(goals.health(torch.tensor([margins]))).tolist()


def run(attack, classifier, images, labels, lab, **options):
    query = CountingQuery(classifier)
    batch = lab.batch(images, labels, **options)
    applied = attack.apply(batch, query, attack.fit(classifier, iter([])))
    margins = {variant.level.name: variant.margins for variant in applied.variants}
    return margins, {(m.quantity, m.level, m.finding): m.values for m in applied.measurements}


class TestMeaning:
    """One case: finding 0 present and called, 1 absent and not called, 2 present and missed."""

    case = reading([[1.0, 0.0, 1.0]], [[1.0, -2.0, -0.5]])

    def rows(self, *aims):
        return Goals.joined([self.case.rows(aim, column) for column, aim in enumerate(aims)])

    @pytest.mark.parametrize(("margins", "flipped"), [([0.0, -2, -0.5], False), ([-1e-30, -2, -0.5], True)])
    def test_a_margin_of_exactly_the_operating_point_is_a_call(self, margins, flipped):
        assert reached(self.rows(Aim(goal=Goal.ANY, finding=0)), margins) == [flipped]
        assert reached(self.rows(Aim(goal=Goal.ANY, finding=1)), [1.0, 0.0, 0.0]) == [True]

    def test_quiet_needs_every_other_call_where_it_was(self):
        quiet = self.rows(Aim(goal=Goal.QUIET, finding=0))
        assert reached(quiet, [-1.0, -2.0, -0.5]) == [True]
        assert reached(quiet, [-1.0, 0.0, -0.5]) == [False]
        assert reached(quiet, [-1.0, -2.0, 0.5]) == [False]  # right, but not where it was

    def test_a_wrong_call_cannot_be_flipped(self):
        assert len(self.rows(Aim(goal=Goal.ANY, finding=2), Aim(goal=Goal.QUIET, finding=2))) == 0

    def test_all_clear_leaves_no_call_at_all(self):
        clear = self.rows(Aim(goal=Goal.ALL_CLEAR))
        assert reached(clear, [-1.0, -1.0, -1.0]) == [True]
        assert reached(clear, [-1.0, 0.0, -1.0]) == [False]

    def test_alarm_needs_every_absent_finding_and_no_other(self):
        alarm = self.rows(Aim(goal=Goal.ALARM))
        assert reached(alarm, [-5.0, 0.0, -5.0]) == [True]
        assert reached(alarm, [5.0, -1e-6, 5.0]) == [False]

    def test_swap_hides_one_and_creates_the_other(self):
        swap = self.rows(Aim(goal=Goal.SWAP, finding=0, other=1))
        assert [reached(swap, m) for m in ([-1.0, 0.0, 0.0], [-1.0, -1.0, 0.0], [0.0, 1.0, 0.0])] == [
            [True],
            [False],
            [False],
        ]
        assert len(self.rows(Aim(goal=Goal.SWAP, finding=1, other=0))) == 0

    def test_triage_means_below_the_cut_off_and_not_below_the_operating_point(self):
        listed = replace(self.case, cutoff=torch.tensor([0.5, torch.nan, torch.nan]))
        triage = listed.rows(Aim(goal=Goal.TRIAGE), 0)
        assert reached(triage, [0.5, 9.0, 9.0]) == [False]
        assert reached(triage, [0.49, 9.0, 9.0]) == [True]
        assert len(replace(listed, clean=torch.tensor([[0.4, 0.0, 0.0]])).rows(Aim(goal=Goal.TRIAGE), 0)) == 0

    def test_drift_is_never_reached(self):
        assert reached(self.rows(Aim(goal=Goal.DRIFT, finding=1, other=1)), [0.0, 99.0, 0.0]) == [False]

    def test_weights_are_those_of_the_health_away_from_ties(self):
        goals = self.rows(Aim(goal=Goal.ALL_CLEAR), Aim(goal=Goal.ALARM), Aim(goal=Goal.ANY, finding=0))
        margins = torch.tensor([[3.0, -2.0, -1.0]]).repeat(len(goals), 1).requires_grad_()
        (slope,) = torch.autograd.grad(goals.health(margins).sum(), margins)
        rows = torch.tensor([2, 0, 1])  # the harness may ask for some rows, in any order
        torch.testing.assert_close(goals.weights(3)(margins.detach()[rows], rows), slope[rows], atol=1e-6, rtol=0)


def best_by_linear_programme(model, image, push, eps):
    """Least value of the largest of ``push (w . x + b)`` in the ball and the box."""
    kept = push != 0
    w, b = model.weight.detach().double().numpy()[kept], model.bias.detach().double().numpy()[kept]
    p, x = push[kept], image.flatten().double().numpy()
    ends = [(max(0.0, v - eps), min(1.0, v + eps)) for v in x]
    bounds = np.hstack([p[:, None] * w, -np.ones((len(p), 1))])
    return linprog(np.r_[np.zeros(len(x)), 1], A_ub=bounds, b_ub=-p * b, bounds=[*ends, (None, None)]).fun


class TestLinearHeads:
    findings = 4

    @pytest.fixture
    def bench(self, lab):
        model = lab.linear(64, findings=self.findings, seed=3)
        classifier = lab.classifier(model, size=(8, 8), findings=self.findings)
        images = lab.images((150, 1, 8, 8), bits=16, seed=5)
        return model, classifier, images, lab.called(classifier, images)

    def test_any_is_the_least_of_the_findings(self, lab, bench):
        model, classifier, images, labels = bench
        attack = ClinicalGoals(levels=ladder("1/255", "3/255"), goals=("any", "hide", "create"), steps=4)
        margins, measured = run(attack, classifier, images, labels, lab, stored_bits=16)
        flat, side = images.flatten(1).double()[:, None], lab.side(labels).double()
        w, found = model.weight.double()[None], []
        for level in attack.levels:
            room = torch.where(side[..., None] * w > 0, flat, 1 - flat).clamp(max=level.value)
            worst = ((flat * w).sum(-1) + model.bias.double()) * side - (w.abs() * room).sum(-1)
            exact = (worst < 0).any(1).float()
            assert torch.equal(measured["reached any", level.name, ""], exact)
            found.append(exact.mean().item())
            per = torch.stack([measured["reached hide", level.name, f"finding-{k}"] for k in range(4)], 1)
            hidden = torch.where(labels == 1, (worst < 0).float(), torch.nan)
            torch.testing.assert_close(per, hidden, equal_nan=True)
            assert torch.equal((margins[level.name] >= 0) != (labels == 1), worst < 0)
        assert 0.05 < found[0] < found[1] <= 1

    @pytest.mark.parametrize(("goal", "epsilon"), [("quiet", "8/255"), ("all-clear", "24/255"), ("swap", "8/255")])
    def test_the_search_agrees_with_the_linear_programme(self, lab, bench, goal, epsilon):
        model, classifier, images, labels = bench
        names = [f"finding-{k}" for k in range(self.findings)]
        pairs = {"pairs": list(product(names[:2], names[2:]))} if goal == "swap" else {}
        options = {"epsilon": epsilon, "goals": [goal], "steps": 60, "random_starts": 0, **pairs}
        attack = ClinicalGoals.from_options(options)
        _, measured = run(attack, classifier, images, labels, lab, stored_bits=16)
        known = reading(labels.tolist(), classifier.margins(images).detach().tolist())
        clear, agreed, hit = 0, 0, 0
        for aim in attack._aims(self.findings, [(names.index(a), names.index(b)) for a, b in attack.pairs]):
            rows = known.rows(aim, 0)
            name = f"swap to {names[aim.other]}" if goal == "swap" else goal
            values = measured[f"reached {name}", epsilon, "" if goal == "all-clear" else names[aim.finding]]
            assert torch.equal((~values.isnan()).nonzero()[:, 0], rows.case)
            for case, push in zip(rows.case.tolist(), rows.push.double().numpy(), strict=True):
                best = best_by_linear_programme(model, images[case], push, attack.levels[0].value)
                assert not (values[case] == 1 and best > 1e-5)  # never beyond what is possible
                clear += abs(best) > 0.05
                agreed += abs(best) > 0.05 and (values[case] == 1) == (best < 0)
                hit += best < 0
        assert clear >= 100
        assert agreed == clear
        assert 0.1 < hit / clear < 0.99  # the level crosses the decision


def test_following_the_worst_bound_alone_would_miss_goals_that_can_be_reached(lab, monkeypatch):
    """Why the directions of nearly tied bounds are shared out."""
    model = lab.linear(64, findings=4, seed=3)
    classifier = lab.classifier(model, size=(8, 8), findings=4)
    images = lab.images((60, 1, 8, 8), bits=16, seed=5)
    attack = ClinicalGoals(levels=ladder("24/255"), goals=("all-clear",), random_starts=0)

    def share():
        _, measured = run(attack, classifier, images, lab.called(classifier, images), lab, stored_bits=16)
        return measured["reached all-clear", "24/255", ""].nanmean()

    shared = share()
    monkeypatch.setattr("robustbench_rad.attacks._goals.SHARPNESS", 1e-6)
    assert shared > share() + 0.1


class TestExclusiveClasses:
    @pytest.fixture
    def softmax(self, lab, calibrated):
        def make(groups=((0,), (1,), (2,)), thresholds=(float("nan"),) * 3):
            module = calibrated(findings=4, cases=24)[0].module
            options = {"groups": groups, "thresholds": thresholds}
            return lab.classifier(module, size=(15, 15), findings=len(groups), head=Head.SOFTMAX, **options)

        return make

    def test_a_call_that_must_go_somewhere_swaps(self, lab, softmax):
        """Three of four classes decide by the largest: hiding one quietly is only possible towards the fourth."""
        classifier = softmax()
        images = lab.images((24, 1, 15, 15), bits=8)
        labels = lab.called(classifier, images)
        pairs = [[a, b] for a, b in product(F, F) if a != b]
        options = {"epsilon": "40/255", "goals": ["quiet", "swap", "all-clear", "drift"], "pairs": pairs, "steps": 20}
        _, measured = run(ClinicalGoals.from_options(options), classifier, images, labels, lab)
        swapped = torch.stack([measured[f"reached swap to {b}", "40/255", a] for a, b in pairs], 1)
        assert swapped.nansum() > 0
        for k, finding in enumerate(F):
            hidden = measured["reached quiet", "40/255", finding][labels[:, k] == 1]
            clear = measured["reached all-clear", "40/255", ""][labels[:, k] == 1]
            assert torch.equal(hidden, clear)  # of one called class, both mean that the fourth one wins
            assert measured["drift", "40/255", finding].isnan().all()  # the largest class decides: no probability

    def test_creating_one_quietly_is_impossible_where_another_must_stay(self, lab, softmax):
        classifier = softmax()
        images = lab.images((24, 1, 15, 15), bits=8)
        labels = lab.called(classifier, images)
        attack = ClinicalGoals(levels=ladder("40/255"), goals=("quiet", "create"), steps=12)
        _, measured = run(attack, classifier, images, labels, lab)
        other_called = labels.any(1)
        created = 0.0
        for k, finding in enumerate(F):
            rows = other_called & (labels[:, k] == 0)
            assert not measured["reached quiet", "40/255", finding][rows].any()
            created += measured["reached create", "40/255", finding][rows].sum()
        assert created > 0

    def test_groups_with_thresholds_drift_in_probability(self, lab, softmax):
        classifier = softmax(((1, 2), (3,)), (0.5, 0.25))
        images = lab.images((24, 1, 15, 15), bits=8)
        attack = ClinicalGoals(levels=ladder("1/255", "8/255"), goals=("drift",), steps=12)
        _, measured = run(attack, classifier, images, lab.called(classifier, images), lab)
        small, large = (measured["drift", name, "finding-1"] for name in ("1/255", "8/255"))
        assert (small > 0).all()
        assert (large >= small).all()
        assert large.max() <= 1


class TestAttack:
    def test_drift_on_a_linear_head_is_exact(self, lab):
        model = lab.linear(36)
        classifier = lab.classifier(model, size=(6, 6), thresholds=(0.2,))
        images = lab.images((40, 1, 6, 6), bits=16)
        attack = ClinicalGoals(levels=ladder("2/255"), goals=("drift",), steps=4)
        _, measured = run(attack, classifier, images, lab.called(classifier, images), lab, stored_bits=16)
        flat, w = images.flatten(1).double(), model.weight[0].double()
        z = flat @ w + model.bias.double()
        room = (
            torch.where(w > 0, 1 - flat, flat).clamp(max=2 / 255),
            torch.where(w > 0, flat, 1 - flat).clamp(max=2 / 255),
        )
        up, down = (z + s * (w.abs() * r).sum(1) for s, r in zip((1, -1), room, strict=True))
        exact = torch.stack([(up.sigmoid() - z.sigmoid()).abs(), (down.sigmoid() - z.sigmoid()).abs()]).amax(0)
        torch.testing.assert_close(measured["drift", "2/255", "finding-0"], exact.float(), atol=1e-5, rtol=1e-4)

    def test_alarms_are_counted_also_where_one_finding_is_out_of_reach(self, lab):
        model = lab.linear(36, findings=3)
        with torch.no_grad():
            model.bias[2] -= 1000
        classifier = lab.classifier(model, size=(6, 6), findings=3)
        images = lab.images((40, 1, 6, 6), bits=16)
        labels = lab.called(classifier, images)
        attack = ClinicalGoals(levels=ladder("60/255"), goals=("alarm",), steps=30)
        _, measured = run(attack, classifier, images, labels, lab, stored_bits=16)
        raised, absent = measured["alarms raised", "60/255", ""], (labels[:, :2] == 0).sum(1)
        assert not measured["reached alarm", "60/255", ""].any()
        assert (raised <= absent).all()
        assert raised.sum() > 0.5 * absent.sum()

    def test_levels_never_lose_what_a_smaller_one_reached(self, lab, calibrated):
        classifier, images, labels = calibrated(findings=3, cases=16)
        levels = ("1/255", "3/255", "9/255")
        attack = ClinicalGoals(levels=ladder(*levels), steps=8, random_starts=0)
        margins, measured = run(attack, classifier, images, labels, lab)
        for (quantity, level, finding), values in measured.items():
            if level in levels[1:]:
                before = measured[quantity, levels[levels.index(level) - 1], finding]
                if quantity != "alarms raised":
                    assert (values >= before)[~values.isnan()].all()
        assert any(values.nansum() > 0 for (name, *_), values in measured.items() if name == "reached quiet")
        with torch.no_grad():
            clean = classifier.margins(images)
        assert (lab.side(labels) * (margins["9/255"] - clean) <= 1e-6).all()

    def test_a_flip_that_is_reached_is_in_the_margins(self, lab, calibrated):
        classifier, images, labels = calibrated(findings=3, cases=16)
        attack = ClinicalGoals(levels=ladder("4/255"), goals=("hide", "create"), steps=8)
        margins, measured = run(attack, classifier, images, labels, lab)
        for k in range(3):
            flipped = (margins["4/255"][:, k] >= 0) != (labels[:, k] == 1)
            either = [measured[f"reached {goal}", "4/255", f"finding-{k}"] for goal in ("hide", "create")]
            assert torch.equal(flipped, torch.where(labels[:, k] == 1, *either) == 1)

    def test_less_than_a_grey_level_is_no_answer_and_not_a_robust_case(self, lab, calibrated):
        classifier, images, labels = calibrated(findings=2)
        attack = ClinicalGoals(levels=ladder("0.5/255", "1/255"), goals=("any",), steps=2)
        _, measured = run(attack, classifier, images, labels, lab)
        assert measured["reached any", "0.5/255", ""].isinf().all()
        assert measured["reached any", "1/255", ""].isfinite().all()

    def test_a_model_that_gives_no_number_is_no_answer(self, lab, calibrated):
        classifier, images, labels = calibrated(findings=2)

        class Broken(torch.nn.Module):
            def forward(self, x):
                return torch.full((len(x), 2), torch.nan) * x.mean()

        broken = lab.classifier(Broken(), size=(15, 15), findings=2)
        clean = classifier.margins(images).detach()
        attack = ClinicalGoals(levels=ladder("1/255"), goals=("any", "drift", "alarm"), steps=2)
        _, measured = run(attack, broken, images, labels, lab, clean_margins=clean)
        assert measured["reached any", "1/255", ""].isinf().all()
        assert measured["drift", "1/255", "finding-0"].isinf().all()

    def test_volumes_give_the_answer_of_the_same_pixels_in_a_plane(self, lab):
        model = lab.linear(24, findings=2)
        images = lab.images((20, 1, 2, 3, 4), bits=16)
        attack = ClinicalGoals(levels=ladder("4/255"), steps=5, random_starts=0)
        volume = lab.classifier(model, size=(2, 3, 4), findings=2)
        labels = lab.called(volume, images)
        _, there = run(attack, volume, images, labels, lab, stored_bits=16)
        flat = lab.classifier(model, size=(4, 6), findings=2)
        _, here = run(attack, flat, images.reshape(20, 1, 4, 6), labels, lab, stored_bits=16)
        for name in there:
            torch.testing.assert_close(there[name], here[name], equal_nan=True, rtol=1e-4, atol=1e-5)

    def test_the_price_is_an_upper_bound(self, lab, calibrated):
        classifier, images, labels = calibrated(findings=3, cases=4)
        with torch.no_grad():
            classifier.module[-1].weight *= 1e-6  # nothing flips
        attack = ClinicalGoals(levels=ladder("1/255", "2/255"), steps=5)
        query = CountingQuery(classifier)
        batch = lab.batch(images, labels, clean_margins=query.margins(images))
        paid = query.forwards
        list(attack.apply(batch, query, attack.fit(classifier, iter([]))).variants)
        spent = query.forwards - paid + 2 * query.backwards
        assert 0.5 * attack.passes(3) < spent / len(images) <= attack.passes(3)

    def test_the_thresholds_are_what_is_learned(self, lab, calibrated):
        classifier, _, _ = calibrated(findings=2)
        state = ClinicalGoals().fit(classifier, iter([]))
        assert state[THRESHOLD].tolist() == [0.0, 0.0]

    def test_the_positive_control_is_solved_whatever_the_goals(self):
        attack = ClinicalGoals(goals=("swap",), pairs=(("a", "b"),))
        assert attack.self_test() == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"goals": ["quit"]}, "quiet"),
        ({"goals": "quiet"}, "list"),
        ({"goals": []}, "list"),
        ({"goals": ["any", "any"]}, "once"),
        ({"goals": ["swap"]}, "pairs"),
        ({"pairs": [["a", "b"]]}, "swap"),
        ({"goals": ["swap"], "pairs": [["a", "a"]]}, "two findings"),
        ({"goals": ["swap"], "pairs": ["ab"]}, "two findings"),
        ({"goals": ["swap"], "pairs": 3}, "two findings"),
        ({"goals": ["triage"]}, "cutoff"),
        ({"goals": ["triage"], "cutoff": {"a": 1.5}}, "between 0 and 1"),
        ({"goals": ["triage"], "cutoff": 0.5}, "finding = probability"),
        ({"steps": 0}, "steps"),
    ],
)
def test_bad_options_are_refused_by_name(options, said):
    with pytest.raises(PlanError, match=said):
        ClinicalGoals.from_options(options)


def test_a_finding_that_the_model_does_not_have_is_refused_before_the_run(calibrated):
    classifier, _, _ = calibrated(findings=2)
    for options in (
        {"goals": ["swap"], "pairs": [["finding-0", "finding-9"]]},
        {"goals": ["triage"], "cutoff": {"x": 0.5}},
    ):
        with pytest.raises(PlanError, match="unknown finding"):
            ClinicalGoals.from_options(options).fit(classifier, iter([]))


def test_a_cut_off_without_a_probability_is_refused_before_the_run(lab):
    options = {"groups": ((0,), (1,)), "thresholds": (float("nan"),) * 2}
    model = lab.classifier(lab.linear(16, findings=4), size=(4, 4), findings=2, head=Head.SOFTMAX, **options)
    with pytest.raises(PlanError, match="expected findings with a threshold"):
        ClinicalGoals.from_options({"goals": ["triage"], "cutoff": {"finding-1": 0.5}}).fit(model, iter([]))
