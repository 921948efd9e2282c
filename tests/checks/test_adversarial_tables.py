"""Robust sensitivity and specificity, attacked AUROC and cost, on margins whose answer can be counted."""

import numpy as np
import pytest

from robustbench_rad.checks import adversarial
from robustbench_rad.checks.adversarial_tables import NO_PREVALENCE, attacked_tables
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import check_spec
from robustbench_rad.scores import Column, ScoreTable

ID, N = "attack.pgd-linf", 200
LEVEL = Level(name="1/255", value=1 / 255, unit="of display range")
CHECK = check_spec(ID, {})
LABEL = np.tile([1.0, 0.0], N // 2)
RNG = np.random.default_rng(0)
CLEAN = 3 * (LABEL - 0.5) + RNG.normal(size=N)
ATTACKED = CLEAN - (2 * LABEL - 1) * RNG.random(N)


def context(attacked=ATTACKED, label=LABEL, full=True, patients=None, **more):
    columns = {("clean", ""): CLEAN, (ID, LEVEL.name): attacked}
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))),
            columns={
                Column(condition=c, level=v, finding="f"): np.asarray(m, np.float32) for (c, v), m in columns.items()
            },
            quantities={},
            full_search=frozenset([(ID, LEVEL.name)] if full else []),
        ),
        findings=("f",),
        labels=label[:, None],
        patients=np.arange(N) if patients is None else patients,
        levels={ID: (LEVEL,)},
        **more,
    )


def row(table, metric):
    (found,) = [dict(zip(table.columns, row, strict=True)) for row in table.rows if metric in row]
    return found


def test_clean_errors_count_in_robust_sensitivity_and_not_in_the_flip_rate():
    (table,) = attacked_tables(context(), CHECK)
    positive, called, kept = LABEL == 1, CLEAN >= 0, ATTACKED >= 0
    found = row(table, "robust sensitivity")
    assert found["clean"] == pytest.approx(called[positive].mean())
    assert found["under attack"] == pytest.approx(kept[positive].mean())
    assert found["right calls flipped"] == pytest.approx(1 - kept[positive & called].mean())
    assert 1 - found["under attack"] > found["right calls flipped"] > 0
    assert found["lower"] < found["under attack"] < found["upper"]
    specific = row(table, "robust specificity")
    assert specific["under attack"] == pytest.approx((~kept)[~positive].mean())
    assert specific["right calls flipped"] == pytest.approx(kept[~positive & ~called].mean())


def test_an_attacked_auroc_needs_a_full_search():
    (table,) = attacked_tables(context(), CHECK)
    found = row(table, "attacked AUROC")
    area = (ATTACKED[LABEL == 1][:, None] > ATTACKED[LABEL == 0]).mean()  # counted pair by pair
    assert found["under attack"] == pytest.approx(area, abs=1e-9)
    assert found["under attack"] < found["clean"]
    assert found["right calls flipped"] is None
    (table,) = attacked_tables(context(full=False), CHECK)
    assert {r[2] for r in table.rows} == {"robust sensitivity", "robust specificity"}


def test_a_case_without_a_margin_is_never_left_out_in_silence():
    attacked = ATTACKED.copy()
    attacked[3] = np.nan
    (table,) = attacked_tables(context(attacked), CHECK)
    for found in (row(table, "robust sensitivity"), row(table, "attacked AUROC")):
        assert found["under attack"] is None
        assert found["clean"] is not None
        assert found["not assessable"] == "the attack gave no margin for 1 case(s)"


def test_unknown_labels_take_no_part():
    label = np.where(np.arange(N) < 20, np.nan, LABEL)
    (table,) = attacked_tables(context(np.where(np.isnan(label), np.nan, ATTACKED), label), CHECK)
    assert row(table, "robust sensitivity")["under attack"] == pytest.approx(
        (ATTACKED >= 0)[20:][LABEL[20:] == 1].mean()
    )


def test_one_class_says_so():
    (table,) = attacked_tables(context(label=np.ones(N)), CHECK)
    assert row(table, "robust specificity")["under attack"] is None
    assert row(table, "robust specificity")["not assessable"]
    assert row(table, "robust sensitivity")["under attack"] is not None


def test_images_of_one_patient_widen_the_intervals():
    def width(patients):
        found = row(attacked_tables(context(patients=patients), CHECK)[0], "robust sensitivity")
        return found["upper"] - found["lower"]

    assert width(np.where(ATTACKED >= 0, 0, 1) + 2 * (np.arange(N) // 40)) > 1.5 * width(np.arange(N))


def test_the_cost_is_that_of_the_rates_at_the_declared_prevalence():
    costs = {"f": {"miss": 20.0, "false_alarm": 1.0}}
    performance, cost = attacked_tables(context(costs=costs, prevalence={"f": 0.1}), CHECK)
    found = dict(zip(cost.columns, cost.rows[0], strict=True))
    for column in ("clean", "under attack"):
        se, sp = (row(performance, f"robust {name}")[column] for name in ("sensitivity", "specificity"))
        assert found[column] == pytest.approx(0.1 * (1 - se) * 20 + 0.9 * (1 - sp))
    assert found["rise"] == pytest.approx(found["under attack"] - found["clean"])
    assert 0 < found["rise lower"] < found["rise"] < found["rise upper"]
    apart = (found["upper"] - found["lower"]) + (found["clean upper"] - found["clean lower"])
    assert found["rise upper"] - found["rise lower"] < apart  # paired: the same cases


def test_costs_without_a_prevalence_say_what_is_missing():
    _, cost = attacked_tables(context(costs={"f": {"miss": 20.0}}), CHECK)
    assert cost.rows[0][-1] == NO_PREVALENCE
    assert cost.rows[0][2] is None


def test_the_report_of_an_attack_holds_them():
    titles = [table.title for table in adversarial.judge(context(), CHECK).tables]
    assert "What the attack leaves of the model" in titles


def test_calls_that_do_not_change_cost_no_more_than_so_few_cases_can_rule_out():
    costs = {"f": {"miss": 20.0, "false_alarm": 1.0}}
    cost = attacked_tables(context(CLEAN, costs=costs, prevalence={"f": 0.1}), CHECK)[-1]
    found = dict(zip(cost.columns, cost.rows[0], strict=True))
    assert found["rise"] == 0
    most = 1 - 0.025 ** (1 / 100)  # Clopper and Pearson: no changed call among 100
    assert found["rise upper"] == pytest.approx(np.hypot(0.1 * 20 * most, 0.9 * most))
