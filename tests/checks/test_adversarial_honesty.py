"""When a pass may not be believed: every row of the table from scores whose trouble is known, and what it does to verdicts."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_rad.checks import adversarial, defaults
from robustbench_rad.checks import adversarial_honesty as honesty
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Domain, PreflightItem, Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable

N = 400
LABEL = np.tile([1.0, 0.0], N // 2)
SIDE = 2 * LABEL - 1
CLEAN = 4 * SIDE
SAMPLED = np.arange(N) < 64
RANGE = "of display range"
LADDERS = {
    "attack.diagnostics": (),
    "attack.fgsm": (Level(name="1/255", value=1 / 255, unit=RANGE), Level(name="2/255", value=2 / 255, unit=RANGE)),
    "attack.pgd-linf": (
        Level(name="1/255", value=1 / 255, unit="of range = 1 grey level"),
        Level(name="2/255", value=2 / 255, unit="of range = 2 grey levels"),
    ),
    "attack.square-linf": (Level(name="2/255", value=2 / 255, unit=RANGE),),
    "attack.pgd-l2": (Level(name="1/255", value=1 / 255, unit=f"RMS {RANGE}"),),
}
HEALTHY = {
    "zero_gradient": 0.0,
    "graph_cut": 0.0,
    "log_odds": 4.0,
    "gradient_truth": 1.0,
    "repeat_difference": 0.0,
    "numeric_noise": 1e-6,
    "flipped": 0.0,
    "flipped_twice_the_steps": 0.0,
    "flipped_second_start": 0.0,
    "flipped_cross_entropy": 0.0,
    "flipped_whole_box": 1.0,
    "temperature_changed": 0.0,
    "late_gain": 0.01,
    "ruggedness": 0.01,
    "reverified": np.nan,
}
FACTS = {
    "epsilon": 2 / 255,
    "probabilities_only": 0.0,
    "saturation_limit": 16.0,
    "defended": 0.0,
    **{f"changed {name}": 0.0 for name in ("parameters or buffers", "gradients", "modes", "random state", "tracer")},
}
OK = (PreflightItem(name="attack sentinel", status="ok", detail="Planted linear models were solved."),)


def flip(count, start=0, margins=CLEAN):
    """Margins with ``count`` calls flipped, from row ``start`` on."""
    out = np.array(margins, dtype=float)
    out[start : start + count] *= -1
    return out


def context(attacked=None, sample=None, facts=None, *, diagnosed=True, preflight=OK, without=()) -> JudgeContext:
    levels = {id: ladder for id, ladder in LADDERS.items() if id not in without}
    if not diagnosed:
        levels.pop("attack.diagnostics")
    columns = {Column(condition="clean", level="", finding="f"): CLEAN}
    for id, ladder in levels.items():
        for level in ladder:
            columns[Column(condition=id, level=level.name, finding="f")] = (attacked or {}).get((id, level.name), CLEAN)
    quantities = {}
    if diagnosed:
        for name, value in {**HEALTHY, **(sample or {})}.items():
            values = np.where(SAMPLED, value, np.nan)
            quantities[Quantity(condition="attack.diagnostics", name=name, finding="f")] = values
        for name, value in {**FACTS, **(facts or {})}.items():
            quantities[Quantity(condition="attack.diagnostics", name=name)] = np.where(SAMPLED, value, np.nan)
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(str(row) for row in range(N)),
            columns={key: np.asarray(value, np.float32) for key, value in columns.items()},
            quantities={key: np.asarray(value, np.float32) for key, value in quantities.items()},
        ),
        findings=("f",),
        labels=LABEL[:, None],
        patients=np.arange(N),
        levels=levels,
        preflight=preflight,
    )


def spec(id) -> CheckSpec:
    default = defaults(id)

    def table(value):
        return dict(value) if isinstance(value, dict) else {"": value}

    return CheckSpec(
        id=id,
        domain=default.domain,
        options={},
        tolerance=table(default.tolerance),
        critical_harm=table(default.critical_harm),
        critical=False,
        informational=default.informational,
    )


def rows(context) -> dict[str, dict]:
    table = honesty.table(context, "attack.diagnostics", Domain.ADVERSARIAL)
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def verdicts(context, check) -> dict[str, tuple[Verdict, str]]:
    judged = adversarial.judge(context, spec(check)).judged
    return {
        item.criterion.quantity.partition(":")[0]: (item.criterion.verdict, item.criterion.reason) for item in judged
    }


EVERY = (
    "zero gradient",
    "saturation",
    "loss disagreement",
    "temperature law",
    "gradient truth",
    "unbounded control",
    "convergence",
    "restarts",
    "black beats white",
    "single beats iterative",
    "ε monotonicity",
    "ruggedness",
    "stochastic forward",
    "graph break",
    "positive control",
    "state hash",
    "tie",
    "precision",
)


def test_every_row_of_the_specification_is_there_and_well_with_a_healthy_model():
    found = rows(context())
    assert tuple(found) == EVERY
    assert {row["state"] for row in found.values()} == {"ok"}
    assert all(row["measured"] for row in found.values())
    for check in ("attack.fgsm", "attack.pgd-linf", "attack.square-linf", "attack.pgd-l2"):
        assert {verdict for verdict, _ in verdicts(context(), check).values()} == {Verdict.PASS}


def test_the_lists_of_carlini_and_pintor_are_mapped():
    found = rows(context())
    assert all(row["Carlini et al. 2019"] for row in found.values())
    said = {row["Pintor et al. 2022"] for row in found.values()}
    for indicator in (
        "unavailable gradients",
        "unstable predictions",
        "silent success",
        "incomplete optimisation",
        "transfer failure",
        "unconstrained attack failure",
    ):
        assert any(indicator in entry for entry in said), indicator


some = np.where(np.arange(N) < 3, 1.0, 0.0)
TROUBLE = {
    "zero gradient": {"sample": {"zero_gradient": some}},
    "saturation": {"sample": {"log_odds": 17.0}},
    "temperature law": {"sample": {"temperature_changed": some}},
    "gradient truth": {"sample": {"gradient_truth": 0.9}},
    "unbounded control": {"sample": {"flipped_whole_box": 1 - some}},
    "ruggedness": {"sample": {"ruggedness": 0.2}},
    "stochastic forward": {"sample": {"repeat_difference": 1e-3}},
    "graph break": {"sample": {"graph_cut": some}},
    "state hash": {"facts": {"changed modes": 1.0}},
    "precision": {"sample": {"flipped": some, "reverified": np.where(some > 0, 0.0, np.nan)}},
    "convergence": {"sample": {"late_gain": 0.08}},
    "restarts": {"sample": {"flipped_second_start": some}},
    "loss disagreement": {"sample": {"flipped_cross_entropy": some}},
}


@pytest.mark.parametrize("name", TROUBLE)
def test_what_the_sample_shows_makes_passes_inconclusive_with_the_number(name):
    troubled = context(**TROUBLE[name])
    found = rows(troubled)
    assert found[name]["state"] == "trips"
    others = {other for other, row in found.items() if row["state"] == "trips"} - {name}
    assert not others
    kind = "not assessable" if name == "graph break" else "not trustworthy"
    judged = verdicts(troubled, "attack.pgd-l2")
    assert judged["hide"][0] is Verdict.INCONCLUSIVE
    assert f"{kind}: {name}: " in judged["hide"][1]
    assert any(character.isdigit() for character in judged["hide"][1]) or name == "state hash"


@pytest.mark.parametrize("name", TROUBLE)
def test_a_verified_failure_stands_whatever_the_diagnostics_say(name):
    flipped = {("attack.pgd-l2", "1/255"): -CLEAN}
    judged = verdicts(context(flipped, **TROUBLE[name]), "attack.pgd-l2")
    assert {verdict for verdict, _ in judged.values()} == {Verdict.FAIL}


GRADIENT_ONLY = ("temperature law", "gradient truth", "ruggedness", "convergence", "restarts", "loss disagreement")


@pytest.mark.parametrize("name", TROUBLE)
def test_what_only_misleads_gradients_says_nothing_of_a_search_without_them(name):
    judged = verdicts(context(**TROUBLE[name]), "attack.square-linf")
    assert (judged["hide"][0] is Verdict.PASS) == (name in GRADIENT_ONLY)


def test_trouble_with_positives_alone_leaves_the_passes_of_negatives():
    judged = verdicts(context(sample={"zero_gradient": np.where(LABEL == 1, 1.0, 0.0)}), "attack.pgd-linf")
    assert judged["hide"][0] is Verdict.INCONCLUSIVE
    assert judged["create"][0] is Verdict.PASS


def test_one_call_more_of_a_longer_search_is_chance_and_two_are_not():
    for name in ("flipped_second_start", "flipped_twice_the_steps", "flipped_cross_entropy"):
        row = {"flipped_second_start": "restarts", "flipped_twice_the_steps": "convergence"}.get(
            name, "loss disagreement"
        )
        for count, state in ((1, "ok"), (2, "trips")):
            found = rows(context(sample={name: np.where(np.arange(N) < count, 1.0, 0.0)}))
            assert found[row]["state"] == state


def test_an_attack_that_found_what_the_longer_searches_found_is_not_doubted_for_them():
    sample = {"flipped_second_start": some}
    found = {("attack.pgd-linf", "2/255"): flip(3)}
    judged = verdicts(context(found, sample), "attack.pgd-linf")
    at_two = honesty.doubts(context(found, sample), "attack.pgd-linf", LADDERS["attack.pgd-linf"][1], "f", 1.0)
    assert at_two == []
    assert judged["hide"][0] is Verdict.INCONCLUSIVE  # at 1/255, where the diagnostics cannot answer, the doubt stays
    missed = honesty.doubts(context({}, sample), "attack.pgd-linf", LADDERS["attack.pgd-linf"][1], "f", 1.0)
    assert any("flipped 2 calls that it left standing" in doubt for doubt in missed)


def test_cross_entropy_that_finds_less_is_information():
    found = rows(context(sample={"flipped": some, "reverified": np.where(some > 0, 1.0, np.nan)}))
    assert found["loss disagreement"]["state"] == "info"
    assert "3 of 3 sampled flips stand" in found["precision"]["measured"]


def test_probabilities_are_precision_limited_and_trip_earlier():
    mild = rows(context(facts={"probabilities_only": 1.0}))["saturation"]
    assert mild["state"] == "info"
    assert "precision-limited" in mild["measured"]
    assert rows(context(sample={"log_odds": 13.0}))["saturation"]["state"] == "ok"
    hot = context(sample={"log_odds": 13.0}, facts={"probabilities_only": 1.0})
    assert rows(hot)["saturation"]["state"] == "trips"


def test_a_few_saturated_calls_are_information():
    found = rows(context(sample={"log_odds": np.where(np.arange(N) < 2, -40.0, 3.0)}))["saturation"]
    assert found["state"] == "info"
    assert "largest 40" in found["measured"]


def test_declared_defences_may_have_other_gradients():
    found = rows(context(sample={"gradient_truth": 0.4}, facts={"defended": 1.0}))["gradient truth"]
    assert found["state"] == "info"
    assert "declared defences" in found["measured"]


def test_black_beats_white_only_where_it_was_allowed_no_more():
    beaten = context({("attack.square-linf", "2/255"): flip(2)})
    assert rows(beaten)["black beats white"]["state"] == "trips"
    assert "flips 2 of 400" in rows(beaten)["black beats white"]["measured"]
    judged = verdicts(beaten, "attack.pgd-linf")
    assert judged["hide"][0] is Verdict.INCONCLUSIVE
    assert "attack.square-linf flipped 1 of 200 calls that it left standing" in judged["hide"][1]
    assert verdicts(beaten, "attack.pgd-l2")["hide"][0] is Verdict.PASS  # another norm
    assert verdicts(beaten, "attack.square-linf")["hide"][0] is Verdict.PASS
    found_too = context({("attack.square-linf", "2/255"): flip(2), ("attack.pgd-linf", "2/255"): flip(3)})
    assert rows(found_too)["black beats white"]["state"] == "ok"
    assert rows(context(without=["attack.square-linf"]))["black beats white"]["state"] == "not measured"


def test_a_ladder_that_breaks_all_in_the_end_does_not_hide_what_noise_beats():
    made = context({("attack.square-linf", "1/255"): flip(2), ("attack.pgd-linf", "2/255"): flip(N)})
    small = Level(name="1/255", value=1 / 255, unit=RANGE)
    columns = {**made.scores.columns}
    columns[Column(condition="attack.square-linf", level="1/255", finding="f")] = flip(2).astype(np.float32)
    ladders = {**made.levels, "attack.square-linf": (small,)}
    beaten = rows(replace(made, scores=replace(made.scores, columns=columns), levels=ladders))["black beats white"]
    assert beaten["state"] == "trips"
    assert "flips 2 of 400 calls" in beaten["measured"]


def test_calls_that_were_not_attacked_are_not_counted_among_those_that_withstood():
    silent = np.array(CLEAN, dtype=float)
    silent[:6] = np.nan
    made = context({("attack.fgsm", "1/255"): silent})
    (table,) = [t for t in adversarial.judge(made, spec("attack.fgsm")).tables if t.title.startswith("Flips")]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["true positives"] + row["true negatives"] for row in rows] == [N - 6, N]


def test_what_an_attack_says_of_its_levels_stands_under_its_table():
    made = context()
    reasons = {("attack.fgsm", "1/255"): "pixel spacing is not known"}
    told = adversarial.judge(replace(made, scores=replace(made.scores, reasons=reasons)), spec("attack.fgsm")).tables
    assert [table.note for table in told if table.title.startswith("Flips")] == ["Pixel spacing is not known."]
    plain = adversarial.judge(made, spec("attack.fgsm")).tables
    assert [table.note for table in plain if table.title.startswith("Flips")] == [""]


def test_single_beats_iterative():
    beaten = context({("attack.fgsm", "1/255"): flip(1), ("attack.fgsm", "2/255"): flip(1)})
    assert rows(beaten)["single beats iterative"]["state"] == "trips"
    judged = verdicts(beaten, "attack.pgd-linf")
    assert judged["hide"][0] is Verdict.INCONCLUSIVE
    assert judged["create"][0] is Verdict.PASS
    assert rows(context(without=["attack.fgsm"]))["single beats iterative"]["state"] == "not measured"


@pytest.mark.parametrize(("lost", "gained", "state"), [(0, 0, "ok"), (2, 1, "ok"), (10, 0, "trips"), (10, 9, "ok")])
def test_flips_lost_at_a_larger_size_must_be_chance(lost, gained, state):
    attacked = {("attack.fgsm", "1/255"): flip(lost), ("attack.fgsm", "2/255"): flip(gained, start=50)}
    attacked |= {("attack.pgd-linf", name): flip(200) for name in ("1/255", "2/255")}
    assert rows(context(attacked))["ε monotonicity"]["state"] == state


def test_a_tie_is_no_flip_and_is_counted():
    tied = CLEAN.copy()
    tied[:100] = -SIDE[:100] * 5e-7
    known = context({("attack.pgd-l2", "1/255"): tied})
    assert rows(known)["tie"]["state"] == "trips"
    assert "100 attacked margins" in rows(known)["tie"]["measured"]
    estimate = adversarial.judge(known, spec("attack.pgd-l2")).judged[0].criterion.harm.estimate
    assert estimate == 0
    unknown = context({("attack.pgd-l2", "1/255"): tied}, diagnosed=False)
    assert adversarial.judge(unknown, spec("attack.pgd-l2")).judged[0].criterion.harm.estimate == pytest.approx(0.25)
    one = CLEAN.copy()
    one[0] = 5e-7
    assert rows(context({("attack.pgd-l2", "1/255"): one}))["tie"]["state"] == "info"


def test_noise_of_a_model_that_does_not_repeat_itself_excuses_no_flip():
    noisy = {"numeric_noise": 0.5, "repeat_difference": 0.1}
    flipped = {("attack.pgd-l2", "1/255"): -0.1 * CLEAN}
    assert {v for v, _ in verdicts(context(flipped, noisy), "attack.pgd-l2").values()} == {Verdict.FAIL}


def test_an_unsolved_positive_control_is_told():
    items = (PreflightItem(name="attack sentinel: attack.fgsm", status="error", detail="attack.fgsm, it flipped 0."),)
    row = rows(context(preflight=items))["positive control"]
    assert row["state"] == "trips"
    assert "flipped 0" in row["measured"]
    assert rows(context(preflight=()))["positive control"]["state"] == "not measured"


def test_without_the_diagnostics_nothing_is_claimed_to_be_measured():
    bare = context(diagnosed=False)
    found = rows(bare)
    compared = {"black beats white", "single beats iterative", "ε monotonicity", "positive control"}
    assert {name for name, row in found.items() if row["state"] == "not measured"} == set(EVERY) - compared
    (table,) = honesty.untold(bare)
    assert table.check == "attack.diagnostics"
    assert honesty.untold(context()) == []
    assert honesty.untold(context(diagnosed=False, without=[id for id in LADDERS if id != "attack.diagnostics"])) == []


def test_the_diagnostics_are_shown_and_never_judged():
    outcome = honesty.judge(context(), spec("attack.diagnostics"))
    assert outcome.judged == []
    assert [table.title for table in outcome.tables] == ["May the answer be believed?"]


@pytest.mark.parametrize(
    ("reach", "state"),
    [
        ({}, "trips"),
        ({"attack.fgsm": ("display", "border")}, "trips"),
        ({"attack.pgd-linf": ("display", "border"), "attack.fgsm": ("display", "border")}, "trips"),
        ({"attack.pgd-linf": ("display", "border")}, "not measured"),
        ({"attack.pgd-linf": ("stored", "image")}, "not measured"),
    ],
)
def test_attacks_are_compared_only_where_the_one_may_touch_what_the_other_may(reach, state):
    beaten = replace(
        context({("attack.fgsm", "1/255"): flip(1), ("attack.fgsm", "2/255"): flip(1)}, without=["attack.square-linf"]),
        reach=reach,
    )
    assert rows(beaten)["single beats iterative"]["state"] == state
    doubted = "not trustworthy" in "".join(reason for _, reason in verdicts(beaten, "attack.pgd-linf").values())
    assert doubted == (state == "trips")


def test_the_diagnostics_may_touch_more_than_an_attack_behind_a_mask():
    missed = context(sample={"flipped": 1.0})
    assert "descents of the diagnostics" in verdicts(missed, "attack.pgd-linf")["hide"][1]
    masked = replace(missed, reach={"attack.pgd-linf": ("display", "lesion-protected")})
    assert "descents of the diagnostics" not in verdicts(masked, "attack.pgd-linf")["hide"][1]
