"""Every check on scores whose answer is known: it passes, fails, and says when it cannot tell."""

import numpy as np
import pytest

from robustbench_rad.checks import (
    acquisition_shift,
    adversarial,
    all_checks,
    clean,
    defaults,
    masked_anatomy,
    scanner_dependence,
)
from robustbench_rad.checks import parameter_randomisation as saliency
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.errors import PlanError
from robustbench_rad.plan import ClaimSection
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable

N = 600
LABEL = np.tile([1.0, 0.0], N // 2)
LEVELS = {
    "shift.xr.dose": (Level(name="0.5", value=0.5, unit="of the exposure"), Level(name="0.1", value=0.1, unit="")),
    "attack.fgsm": (Level(name="1/255", value=1 / 255, unit="of display range"),),
    "shortcut.masked-anatomy": tuple(
        Level(name=name, value=i, unit="fill")
        for i, name in enumerate(("atlas-mean", "atlas-blur", "atlas-donor", "shape-only", "own-mean"))
    ),
}


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape or N)


CLEAN = 3 * (LABEL - 0.5) + normal(0)


def context(columns=None, quantities=None, label=LABEL, reasons=None, **more) -> JudgeContext:
    margins = {("clean", ""): CLEAN, **(columns or {})}
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(str(i) for i in range(len(label))),
            columns={
                Column(condition=c, level=level, finding="f"): np.asarray(v, np.float32)
                for (c, level), v in margins.items()
            },
            quantities={
                Quantity(condition=c, name=name, level=level, finding=finding): np.asarray(v, np.float32)
                for (c, name, level, finding), v in (quantities or {}).items()
            },
            full_search=frozenset(more.pop("full_search", ())),
            reasons=reasons or {},
        ),
        findings=("f",),
        labels=label[:, None],
        patients=np.arange(len(label)),
        levels=LEVELS,
        **more,
    )


def spec(id, **changes) -> CheckSpec:
    default = defaults(id)

    def table(value):
        return dict(value) if isinstance(value, dict) else {"": value}

    values = {
        "id": id,
        "domain": default.domain,
        "options": {},
        "tolerance": table(default.tolerance),
        "critical_harm": table(default.critical_harm),
        "critical": False,
    }
    return CheckSpec(**{**values, **changes})


def verdicts(outcome) -> dict[str, Verdict]:
    return {item.criterion.quantity: item.criterion.verdict for item in outcome.judged}


class TestClean:
    @pytest.mark.parametrize(("claim", "verdict"), [(0.9, "pass"), (0.99999, "fail"), (0.985, "inconclusive")])
    def test_the_claim_is_met_missed_or_open(self, claim, verdict):
        outcome = clean.judge(context(claims={"f": ClaimSection(auroc=claim)}), spec("clean.performance"))
        assert set(verdicts(outcome).values()) == {Verdict(verdict)}

    def test_every_claimed_metric_is_judged(self):
        claims = {"f": ClaimSection(auroc=0.9, sensitivity=0.8, specificity=0.8)}
        assert len(clean.judge(context(claims=claims), spec("clean.performance")).judged) == 3

    def test_without_a_claim_the_least_auroc_of_the_profile_holds(self):
        (item,) = clean.judge(context(minimum_auroc=0.75), spec("clean.performance")).judged
        assert "0.75" in item.criterion.quantity

    def test_a_threshold_that_calls_everything_is_said(self):
        outcome = clean.judge(context({("clean", ""): CLEAN + 50}), spec("clean.performance"))
        assert any("nearly every case is called positive" in notice for notice in outcome.notices)
        assert not clean.judge(context(), spec("clean.performance")).notices

    def test_one_class_is_inconclusive(self):
        (item,) = clean.judge(context(label=np.ones(N)), spec("clean.performance")).judged
        assert item.criterion.verdict is Verdict.INCONCLUSIVE
        assert item.criterion.reason.startswith("not assessable")


class TestShift:
    check = spec("shift.xr.dose")

    def judged(self, mild, strong, **more):
        columns = {("shift.xr.dose", "0.5"): mild, ("shift.xr.dose", "0.1"): strong}
        return acquisition_shift.judge(context(columns, **more), self.check)

    def test_no_change_passes(self):
        assert set(verdicts(self.judged(CLEAN, CLEAN)).values()) == {Verdict.PASS}

    def test_noise_that_drowns_the_signal_fails_at_the_strong_level(self):
        outcome = self.judged(CLEAN, normal(1))
        (auroc,) = [i.criterion for i in outcome.judged if i.criterion.quantity == "AUROC drop"]
        assert auroc.verdict is Verdict.FAIL
        assert auroc.level.name == "0.1"

    def test_a_shifted_score_keeps_auroc_but_loses_specificity(self):
        """The locked threshold is what a hospital has: ranking alone does not save it."""
        found = verdicts(self.judged(CLEAN + 1.5, CLEAN + 1.5))
        assert found["AUROC drop"] is Verdict.PASS
        assert found["sensitivity drop"] is Verdict.PASS
        assert found["specificity drop"] is Verdict.FAIL

    def test_no_number_from_the_model_is_never_a_pass(self):
        broken = CLEAN.copy()
        broken[3] = np.inf
        assert Verdict.PASS not in verdicts(self.judged(CLEAN, broken)).values()

    def test_a_level_that_applied_to_no_case_is_never_a_pass_and_says_why(self):
        outcome = self.judged(CLEAN, np.full(N, np.nan), reasons={("shift.xr.dose", "0.1"): "spacing unknown"})
        assert set(verdicts(outcome).values()) == {Verdict.INCONCLUSIVE}
        assert all("spacing unknown" in item.criterion.reason for item in outcome.judged)

    def test_a_level_that_applied_to_half_of_the_cases_is_never_a_pass(self):
        half = np.where(np.arange(N) % 4 < 2, CLEAN, np.nan)
        outcome = self.judged(CLEAN, half, reasons={("shift.xr.dose", "0.1"): "spacing unknown"})
        assert Verdict.PASS not in verdicts(outcome).values()
        assert any("300 of 600" in i.criterion.reason and "spacing" in i.criterion.reason for i in outcome.judged)

    def test_few_cases_are_inconclusive_and_say_how_many_would_do(self):
        few = np.where(np.arange(N) < 40, LABEL, np.nan)
        outcome = acquisition_shift.judge(
            context({("shift.xr.dose", "0.5"): CLEAN + normal(2) / 9, ("shift.xr.dose", "0.1"): CLEAN}, label=few),
            self.check,
        )
        open_ones = [i.criterion for i in outcome.judged if i.criterion.verdict is Verdict.INCONCLUSIVE]
        assert open_ones
        assert any(criterion.needed_positives for criterion in open_ones)

    def test_curves_hold_clean_and_every_level(self):
        curves = self.judged(CLEAN, CLEAN - 1).curves
        assert {curve.metric for curve in curves} == {"AUROC", "sensitivity", "specificity"}
        assert all([point.level.name for point in curve.points] == ["0.5", "0.1"] for curve in curves)


class TestAttack:
    check = spec("attack.fgsm")

    def judged(self, attacked, **more):
        return adversarial.judge(context({("attack.fgsm", "1/255"): attacked}, **more), self.check)

    def test_nothing_flips(self):
        assert set(verdicts(self.judged(CLEAN)).values()) == {Verdict.PASS}

    def test_directions_are_judged_apart(self):
        hidden = np.where(LABEL == 1, -1.0, CLEAN)
        found = verdicts(self.judged(hidden))
        assert found["hide: true positives lost"] is Verdict.FAIL
        assert found["create: true negatives lost"] is Verdict.PASS

    def test_only_correct_calls_count(self):
        wrong = (LABEL == 1) & (CLEAN < 0)
        assert wrong.any()
        (hide, _create) = self.judged(np.where(wrong, -99.0, CLEAN)).judged
        assert hide.criterion.harm.estimate == 0

    def test_masked_gradients_turn_a_pass_into_inconclusive_but_never_a_fail(self):
        masked = {("attack.fgsm", "zero_gradient", "", "f"): np.where(np.arange(N) < 3, 1.0, 0.0)}
        passed = self.judged(CLEAN, quantities=masked)
        assert set(verdicts(passed).values()) == {Verdict.INCONCLUSIVE}
        assert all("masked gradients" in item.criterion.reason for item in passed.judged)
        assert set(verdicts(self.judged(-CLEAN, quantities=masked)).values()) == {Verdict.FAIL}

    def test_a_case_without_an_attacked_margin_is_not_dropped(self):
        lost = CLEAN.copy()
        lost[:2] = np.nan
        assert Verdict.PASS not in verdicts(self.judged(lost)).values()

    def test_attacked_auroc_is_drawn_only_where_the_search_went_on(self):
        assert not [c for c in self.judged(CLEAN).curves if "AUROC" in c.metric]
        drawn = self.judged(CLEAN, full_search=[("attack.fgsm", "1/255")]).curves
        assert [c.metric for c in drawn if "AUROC" in c.metric] == ["attacked AUROC"]

    def test_flips_are_counted_by_the_member_that_found_them(self):
        right = (CLEAN >= 0) == (LABEL == 1)
        flipped = np.flatnonzero(right)[:5]
        attacked, winner = CLEAN.copy(), np.where(np.arange(N) % 2, 0.0, 1.0)
        attacked[flipped] *= -1
        winner[flipped] = [0, 0, 1, 2, 2]
        found = {("attack.fgsm", "winner of fgsm, pgd-linf, pgd-linf 2", "1/255", "f"): winner}
        table, *_ = self.judged(attacked, quantities=found).tables
        (row,) = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        by_member = [row[f"found by {member}"] for member in ("fgsm", "pgd-linf", "pgd-linf 2")]
        assert by_member == [2, 1, 2]
        assert sum(by_member) == row["hidden"] + row["created"]

    def test_an_attack_without_members_has_no_such_column(self):
        table, *_ = self.judged(CLEAN).tables
        assert not [column for column in table.columns if column.startswith("found by")]


class TestMaskedAnatomy:
    check = spec("shortcut.masked-anatomy")

    def judged(self, mean, blur, donor, shape=None, **more):
        fills = {"atlas-mean": mean, "atlas-blur": blur, "atlas-donor": donor}
        if shape is not None:
            fills["shape-only"] = shape
        columns = {("shortcut.masked-anatomy", name): values for name, values in fills.items()}
        (item,) = masked_anatomy.judge(context(columns, **more), self.check).judged
        return item.criterion

    def test_constant_scores_pass(self):
        flat = np.full(N, -1.0)
        assert self.judged(flat, flat, flat).verdict is Verdict.PASS

    def test_dust_with_a_high_auroc_passes(self):
        """An infinitesimal weight fixes the ranking; a spread of 1 % says that nothing of the score is left."""
        dust = 0.01 * CLEAN
        assert self.judged(dust, dust, dust).verdict is Verdict.PASS

    def test_a_used_shortcut_fails(self):
        used = 0.5 * CLEAN + normal(3)
        assert self.judged(used, used, used).verdict is Verdict.FAIL

    def test_a_ranking_without_spread_is_inconclusive(self):
        weak = 0.05 * CLEAN
        assert self.judged(weak, weak, weak).verdict is Verdict.INCONCLUSIVE

    def test_two_of_three_fills_must_agree(self):
        used, flat = 0.5 * CLEAN + normal(3), np.full(N, -1.0)
        assert self.judged(used, flat, flat).verdict is Verdict.PASS
        assert self.judged(used, used, flat).verdict is Verdict.FAIL

    def test_what_the_shape_of_the_mask_explains_is_no_shortcut(self):
        used = 0.5 * CLEAN + normal(3)
        assert self.judged(used, used, used, shape=used).verdict is not Verdict.FAIL

    @pytest.mark.parametrize("left", [0.64, 0.71])
    def test_fewer_cases_never_make_a_pass(self, left):
        """A shortcut worth an AUROC of 0.64 or 0.71 passes at no size; few cases are inconclusive."""
        from scipy.special import ndtri

        for n in (20, 40, 100, 400):
            for draw in range(15):
                rng = np.random.default_rng([n, draw])
                label = np.where(np.arange(N) < n, LABEL, np.nan)
                used = np.sqrt(2) * ndtri(left) * (LABEL - 0.5) * 1.0 + rng.normal(size=N)
                shape = rng.normal(size=N)
                clean = 4 * (LABEL - 0.5) + rng.normal(size=N)
                fills = {f"atlas-{name}": used for name in ("mean", "blur", "donor")} | {"shape-only": shape}
                columns = {("shortcut.masked-anatomy", name): values for name, values in fills.items()}
                made = context({("clean", ""): clean, **columns}, label=label)
                (item,) = masked_anatomy.judge(made, self.check).judged
                assert item.criterion.verdict is not Verdict.PASS, (n, draw)

    def test_a_model_without_signal_is_not_assessable(self):
        chance = normal(4)
        criterion = self.judged(chance, chance, chance, label=np.random.default_rng(9).permutation(LABEL))
        assert criterion.verdict is Verdict.INCONCLUSIVE
        assert "no signal" in criterion.reason

    def test_no_masks_says_what_is_needed(self):
        nothing = np.full(N, np.nan)
        reasons = {("shortcut.masked-anatomy", n): "no anatomy masks" for n in masked_anatomy.FILLS}
        assert "no anatomy masks" in self.judged(nothing, nothing, nothing, reasons=reasons).reason


class TestScannerDependence:
    check = spec("shortcut.scanner-dependence")

    def judged(self, scores, column, roles=None, **more):
        made = context(
            {("clean", ""): scores}, metadata={"scanner": column}, roles=roles or {"scanner": "nuisance"}, **more
        )
        return [item.criterion for item in scanner_dependence.judge(made, self.check).judged]

    scanner = np.where(np.random.default_rng(5).random(N) < 0.5, "A", "B")

    def test_an_association_through_the_label_alone_is_no_dependence(self):
        """Scanner B sees the ill: the score tells the scanner overall, but not among cases of one label."""
        ill = np.where(np.random.default_rng(6).random(N) < np.where(LABEL == 1, 0.8, 0.2), "B", "A")
        (criterion,) = self.judged(CLEAN, ill)
        assert criterion.verdict is not Verdict.FAIL
        assert criterion.harm.lower == 0

    def test_a_score_that_moves_with_the_scanner_fails(self):
        (criterion,) = self.judged(CLEAN + 1.5 * (self.scanner == "A"), self.scanner)
        assert criterion.verdict is Verdict.FAIL

    def test_only_nuisance_columns_are_judged(self):
        refused, shown = self.judged(
            CLEAN + 1.5 * (self.scanner == "A"), self.scanner, roles={"scanner": "risk_factor"}
        )
        assert "no nuisance column" in refused.reason
        assert shown.verdict is Verdict.INFORMATIONAL
        assert "a risk factor column, shown and not judged" in shown.reason
        assert shown.harm.lower > 0.05

    @pytest.mark.parametrize(
        ("column", "reason"),
        [(["A"] * N, "1 value"), ([""] * N, "0 value"), ([f"s{i % 40}" for i in range(N)], "40 values")],
        ids=["one value", "all missing", "forty values"],
    )
    def test_columns_that_cannot_be_judged_say_why(self, column, reason):
        (criterion,) = self.judged(CLEAN, column)
        assert criterion.verdict is Verdict.INCONCLUSIVE
        assert reason in criterion.reason


class TestParameterRandomisation:
    check = spec("saliency.parameter-randomisation")

    def judged(self, randomised, baseline, **more):
        id = self.check.id
        made = context(
            quantities={
                (id, "similarity_randomised", "", "f"): randomised,
                (id, "similarity_between_images", "", "f"): baseline,
                **more,
            }
        )
        (item,) = saliency.judge(made, self.check).judged
        return item.criterion

    def test_unlike_maps_pass(self):
        assert self.judged(0.02 + normal(1) / 20, 0.5 + normal(2) / 20).verdict is Verdict.PASS

    def test_maps_that_a_random_model_draws_too_fail(self):
        assert self.judged(0.9 + normal(1) / 50, 0.5 + normal(2) / 50).verdict is Verdict.FAIL

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_maps_that_a_random_model_draws_in_negative_fail_too(self, sign):
        similar = sign * 0.47 + normal(1) / 50
        assert self.judged(similar, 0.5 + normal(2) / 50).verdict is Verdict.FAIL
        mixed = np.where(np.arange(N) % 2, similar, -similar)  # the mean of the signed values would be 0
        assert self.judged(mixed, 0.5 + normal(2) / 50).verdict is Verdict.FAIL

    def test_maps_of_other_images_in_negative_are_alike_too(self):
        assert self.judged(0.02 + normal(1) / 50, -0.5 + normal(2) / 50).verdict is Verdict.PASS

    def test_structural_similarity_is_shown_with_its_sign_and_not_judged(self):
        names = ("similarity_randomised", "similarity_between_images", "ssim_randomised", "ssim_between_images")
        values = dict(zip(names, (0.02, 0.5, -0.9, 0.4), strict=True))
        quantities = {(self.check.id, name, "", "f"): value + normal(1) / 50 for name, value in values.items()}
        outcome = saliency.judge(context(quantities=quantities), self.check)
        assert [item.criterion.verdict for item in outcome.judged] == [Verdict.PASS]
        rows = {row[1]: row[3] for row in outcome.tables[0].rows}
        assert list(rows) == [name.replace("_", " ").replace("ssim", "SSIM") for name in names]
        assert rows["SSIM randomised"] == pytest.approx(-0.9, abs=0.01)

    def test_the_similarity_of_different_images_is_the_bar_when_it_is_lower(self):
        assert self.judged(0.25 + normal(1) / 50, 0.1 + normal(2) / 50).verdict is Verdict.FAIL

    def test_constant_maps_are_not_assessable(self):
        nothing = np.full(N, np.nan)
        assert "not assessable" in self.judged(nothing, nothing).reason


def test_every_condition_has_a_check_and_every_check_a_judge():
    import importlib

    for id, check in all_checks().items():
        assert callable(importlib.import_module(check.judge).judge), id


def test_an_unknown_check_names_the_nearest():
    with pytest.raises(PlanError, match=r"shift\.ct\.dose"):
        defaults("shift.ct.does")
