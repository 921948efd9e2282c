"""Robustness curves on smallest radii whose distribution is known: quantiles, areas, censoring, noise, monotonicity."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from robustbench_rad.checks import defaults, robustness_curve
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Domain, Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable

ID = "attack.curve-linf"
N = 400
LEVELS = tuple(Level(name=f"{2**k}/255", value=2**k / 255, unit="of display range") for k in range(6))
LABEL = np.tile([1.0, 0.0], N // 2)
SPREAD = np.exp(
    np.random.default_rng(0).uniform(np.log(0.5 / 255), np.log(64 / 255), N)
)  # log-uniform, beyond both ends


def context(epsilon=SPREAD, *, clean=None, noise=0.0, label=LABEL, patients=None, levels=LEVELS, **broken):
    side = np.where(label == 1, 1.0, -1.0)
    clean = side if clean is None else clean
    right = clean * side > 0
    epsilon = np.where(right & (epsilon <= LEVELS[-1].value), epsilon, np.nan)
    columns = {("clean", ""): clean}
    for level in levels:
        columns[ID, level.name] = np.where(epsilon <= level.value, -side, clean)
    columns |= broken.pop("columns", {})
    values = {("minimal_epsilon", "f"): epsilon, ("noise_sd", ""): np.full(len(label), noise)}
    values |= broken.pop("values", {})
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(str(i) for i in range(len(label))),
            columns={
                Column(condition=c, level=level, finding="f"): np.asarray(v, np.float32)
                for (c, level), v in columns.items()
            },
            quantities={
                Quantity(condition=ID, name=name, finding=finding): np.asarray(v, np.float32)
                for (name, finding), v in values.items()
            },
            full_search=frozenset(),
            reasons={},
        ),
        findings=("f",),
        labels=label[:, None],
        patients=np.arange(len(label)) if patients is None else patients,
        levels={ID: LEVELS},
        **broken,
    )


def spec():
    domain = Domain.ADVERSARIAL
    return CheckSpec(
        id=ID, domain=domain, options={}, tolerance={"": 0}, critical_harm={"": 1}, critical=False, informational=True
    )


def judged(scores):
    outcome = robustness_curve.judge(scores, spec())
    (table,) = outcome.tables
    rows = {row[1]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    return outcome, rows


def found(scores, direction="hide"):
    return robustness_curve.Smallest.of(scores, ID, "f", direction)


def test_it_is_shown_and_never_judged():
    assert defaults(ID).informational
    outcome, _ = judged(context())
    assert {item.criterion.verdict for item in outcome.judged} == {Verdict.INFORMATIONAL}
    assert len(outcome.judged) == 4
    assert all(item.criterion.harm.estimate is not None for item in outcome.judged)


def test_area_is_the_mean_of_the_curve_over_log_epsilon():
    _, rows = judged(context())
    for direction, label in (("hide", 1.0), ("create", 0.0)):
        fine = np.exp(np.linspace(np.log(LEVELS[0].value), np.log(LEVELS[-1].value), 20001))
        robust = np.array([(SPREAD[label == LABEL] > epsilon).mean() for epsilon in fine])
        row = rows[direction]
        assert row["area"] == pytest.approx(np.trapezoid(robust, dx=1 / 20000), abs=1e-3)
        assert row["area lower"] < row["area"] < row["area upper"]


def test_a_wrong_call_counts_as_lost_in_the_area_and_not_in_the_quantiles():
    wrong = np.where(np.arange(N) % 4 < 2, -1.0, 1.0) * np.where(LABEL == 1, 1.0, -1.0)
    _, rows = judged(context(np.full(N, 1.0), clean=wrong))
    assert rows["hide"]["area"] == pytest.approx(0.5)
    assert rows["hide"]["right calls"] == rows["hide"]["never flipped"] == N // 4
    assert rows["hide"]["ε50"] == "> 32/255"


def test_quantiles_and_their_order_statistics():
    scores = context()
    smallest = found(scores)
    ordered = np.sort(smallest.epsilon[smallest.right])
    n = len(ordered)
    for probability in (0.05, 0.5):
        estimate = robustness_curve.quantile(scores, smallest, probability)
        assert estimate.value == ordered[int(np.ceil(probability * n)) - 1]
        low, high = np.searchsorted(ordered, estimate.lower) + 1, np.searchsorted(ordered, estimate.upper) + 1
        covers = binom.cdf(high - 1, n, probability) - binom.cdf(low - 1, n, probability)
        assert 0.95 <= covers <= 0.98
    _, rows = judged(scores)
    assert rows["hide"]["ε50"] == pytest.approx(estimate.value)


def test_the_interval_covers_the_true_median_as_often_as_it_says():
    source, hits = np.random.default_rng(1), 0
    template = context()
    for _ in range(300):
        drawn = np.exp(source.normal(np.log(8 / 255), 1.0, N))
        smallest = replace(found(template), epsilon=np.where(drawn > 32 / 255, np.inf, drawn))
        smallest.right[100:] = False  # 50 positives
        estimate = robustness_curve.quantile(template, smallest, 0.5)
        hits += estimate.lower <= 8 / 255 <= estimate.upper
    assert 0.93 <= hits / 300 <= 1.0


def test_what_was_never_flipped_is_said_to_lie_beyond_the_largest_level():
    _, rows = judged(context(np.full(N, 1.0)))
    row = rows["hide"]
    assert [row["ε05"], row["ε50"], row["ε50 lower"], row["ε50 upper"]] == ["> 32/255"] * 4
    assert row["area"] == 1
    assert row["area lower"] < 1
    _, rows = judged(context(np.where(np.arange(N) < 192, 4 / 255, 1.0)))
    assert rows["hide"]["ε05"] == pytest.approx(4 / 255)
    assert rows["hide"]["ε50"] == "> 32/255"
    assert rows["hide"]["ε50 lower"] == pytest.approx(4 / 255)


def test_few_cases_leave_the_fifth_percentile_open_below():
    label = np.tile([1.0, 0.0], 8)
    _, rows = judged(context(np.linspace(2, 20, 16) / 255, label=label))
    assert rows["hide"]["ε05 lower"] == 0
    assert rows["hide"]["ε05"] == pytest.approx(2 / 255)


def test_images_of_one_patient_do_not_narrow_the_interval():
    _, alone = judged(context())
    scores = context(np.repeat(SPREAD[: N // 4], 4), patients=np.repeat(np.arange(N // 4), 4))
    _, together = judged(scores)
    width = [np.log(rows["hide"]["ε50 upper"] / rows["hide"]["ε50 lower"]) for rows in (alone, together)]
    assert width[1] > 1.2 * width[0]


def test_fragile_below_the_noise():
    _, rows = judged(context(noise=4 / 255))
    expected = (SPREAD[LABEL == 1] < 4 / 255).mean()
    row = rows["hide"]
    assert row["below the noise"] == pytest.approx(expected)
    assert row["below the noise lower"] < expected < row["below the noise upper"]
    assert row["median noise"] == pytest.approx(4 / 255)
    _, rows = judged(context(noise=0.0))
    assert rows["hide"]["below the noise"] == 0


def test_noise_beyond_the_largest_level_leaves_the_censored_either_way():
    _, rows = judged(context(noise=0.5))
    row, flipped = rows["hide"], (SPREAD[LABEL == 1] <= 32 / 255).mean()
    assert row["below the noise"] == pytest.approx(flipped)
    assert row["below the noise upper"] > 0.98
    outcome, _ = judged(context(noise=0.5))
    assert any("either way" in item.criterion.harm.method for item in outcome.judged)


def test_noise_that_cannot_be_read_is_said():
    noise = np.where(np.arange(N) < 100, np.nan, 4 / 255)
    _, rows = judged(context(values={("noise_sd", ""): noise}))
    assert "noise not read on 50 case(s)" in rows["hide"]["note"]
    outcome, rows = judged(context(noise=np.nan))
    assert rows["hide"]["below the noise"] is None
    assert sum("could not be read" in item.criterion.reason for item in outcome.judged) == 2


def test_a_curve_that_rises_is_not_believed():
    side = np.where(LABEL == 1, 1.0, -1.0)
    recovered = context(columns={(ID, LEVELS[-1].name): side})
    with pytest.raises(StatisticsError, match="not monotone"):
        found(recovered)
    outcome, rows = judged(recovered)
    assert all(item.criterion.harm.estimate is None for item in outcome.judged)
    assert "not monotone" in rows["hide"]["note"]
    shifted = context(values={("minimal_epsilon", "f"): np.where(SPREAD <= 32 / 255, SPREAD * 4, np.nan)})
    with pytest.raises(StatisticsError, match="not monotone"):
        found(shifted)


def test_curves_fall_and_leave_out_levels_without_a_meaning():
    nothing = {(ID, LEVELS[0].name): np.full(N, np.nan)}
    outcome, _ = judged(context(np.maximum(SPREAD, 1.5 / 255), columns=nothing))
    assert [curve.metric for curve in outcome.curves] == ["robust sensitivity", "robust specificity"]
    for curve in outcome.curves:
        values = [point.value.estimate for point in curve.points]
        assert len(values) == 5
        assert all(after <= before for before, after in pairwise(values))
        assert all(point.value.lower <= point.value.estimate <= point.value.upper for point in curve.points)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (lambda: context(clean=-np.where(LABEL == 1, 1.0, -1.0)), "no correct call"),
        (lambda: context(label=np.zeros(N)), "no correct call"),
        (lambda: context(columns={(ID, level.name): np.full(N, np.nan) for level in LEVELS}), "no level had a meaning"),
        (
            lambda: context(
                columns={(ID, LEVELS[-1].name): np.where(np.arange(N) == 0, np.nan, 1.0)},
                values={("non_finite_margin", "f"): np.ones(N)},
            ),
            "NaN or infinity",
        ),
    ],
)
def test_what_cannot_be_assessed_says_why(scores, reason):
    outcome, rows = judged(scores())
    assert reason in rows["hide"]["note"]
    assert any(reason in item.criterion.reason for item in outcome.judged)
    assert {item.criterion.verdict for item in outcome.judged} == {Verdict.INFORMATIONAL}


@pytest.mark.parametrize(("range_in", "words"), [((255.0, "grey levels"), "in grey levels"), ((1400.0, "HU"), "in HU")])
def test_radii_are_told_in_the_unit_that_a_reader_knows(range_in, words):
    (plain,) = robustness_curve.judge(context(), spec()).tables
    (table,) = robustness_curve.judge(replace(context(), range_in=range_in), spec()).tables
    assert words in table.note
    assert "as a share of the display range" in plain.note
    told = ("ε05", "ε50", "ε50 lower", "median noise")
    for name in told:
        column = table.columns.index(name)
        for row, other in zip(table.rows, plain.rows, strict=True):
            assert row[column] == pytest.approx(range_in[0] * other[column])
    area = table.columns.index("area")
    assert [row[area] for row in table.rows] == [row[area] for row in plain.rows]


def test_right_calls_that_could_not_be_attacked_are_counted_with_the_reason():
    barred = np.arange(N) < 40
    made = context(np.full(N, np.inf))
    held = dict(made.scores.columns)
    for level in LEVELS:
        key = Column(condition=ID, level=level.name, finding="f")
        held[key] = np.where(barred, np.nan, held[key]).astype(np.float32)
    reasons = {(ID, LEVELS[-1].name): "no lesion is declared"}
    made = replace(made, scores=replace(made.scores, columns=held, reasons=reasons))
    _, rows = judged(made)
    assert rows["hide"]["right calls"] == N // 2 - 20
    assert "20 right call(s) could not be attacked: no lesion is declared" in rows["hide"]["note"]
    nobody = {key: np.full(N, np.nan, np.float32) if key.condition == ID else v for key, v in held.items()}
    key = Column(condition=ID, level=LEVELS[-1].name, finding="f")
    nobody[key] = np.where(np.arange(N) == 1, -1.0, np.nan).astype(np.float32)
    _, rows = judged(replace(made, scores=replace(made.scores, columns=nobody)))
    assert "no correct call that could be flipped; 200 right call(s)" in rows["hide"]["note"]


def test_calls_that_all_flip_at_the_smallest_level_leave_the_area_of_cases_not_seen_open():
    label = LABEL[:12]
    smallest = LEVELS[0].value * np.where(np.arange(12) < 6, 1.0, 1.0 + 5e-8)  # as float32 may have it
    flipped = {(ID, level.name): np.where(label == 1, -1.0, 1.0) for level in LEVELS}
    _, rows = judged(context(smallest, label=label, columns=flipped, values={("minimal_epsilon", "f"): smallest}))
    assert rows["hide"]["area"] == 0.0
    assert rows["hide"]["area upper"] > 0.2
