"""A run against an earlier one: nothing regressed when nothing changed, a planted drop found, and what cannot be told said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from robustbench_rad.audit import run_audit
from robustbench_rad.cli import app
from robustbench_rad.conditions import Level
from robustbench_rad.judging import FinishedRun, JudgingRecord
from robustbench_rad.measured import Measured
from robustbench_rad.plan import make_plan, read_plan
from robustbench_rad.profile import read_profile
from robustbench_rad.regression import MARGINS, compare
from robustbench_rad.result import AuditResult, DataSummary, ModelSummary, Provenance, RegressionVerdict
from robustbench_rad.scores import Column, Quantity, ScoreTable

N = 1200
LABEL = np.tile([1.0, 0.0], N // 2)
RNG = np.random.default_rng(3)
CLEAN = 3 * (LABEL - 0.5) + RNG.normal(size=N)
DOSE = tuple(Level(name=str(v), value=v, unit="of the exposure") for v in (0.5, 0.1))
REGRESSED, SAME, OPEN = RegressionVerdict.REGRESSED, RegressionVerdict.NOT_REGRESSED, RegressionVerdict.CANNOT_TELL


def condition(id, levels, **options):
    return Measured(id=id, version=1, levels=levels, options=options)


def finished(columns=None, *, measured=(), cases=None, digest="d", label=LABEL, quantities=None, full=(), folder="one"):
    """A finished run of one finding ``f`` with the given margins."""
    model = {"factory": "a:b", "head": "single-logit", "findings": ["f"], "input": {"size": [8, 8], "range": [0, 1]}}
    n = len(label)
    cases = cases or tuple(f"case{i}" for i in range(n))
    record = JudgingRecord(
        cases=cases,
        patients=np.arange(n),
        labels=label[:, None],
        metadata={},
        measured={m.id: m for m in measured},
        plan=make_plan({"model": model, "data": {"manifest": "m.csv"}}, base=Path()),
        profile=read_profile("quick"),
        preflight=(),
        model=ModelSummary(
            source="a:b", head="single-logit", findings=["f"], parameters=1, weights_sha256="w", input={}
        ),
        data=DataSummary(cases=n, patients=n, modality="DX", role="internal", metadata={}, digest=digest),
        provenance=Provenance(
            tool_version="0",
            code_sha256="c",
            measurement_sha256="m",
            policy_sha256="p",
            profile="quick v1",
            profile_sha256="q",
            seed=1,
            device="cpu",
            versions={},
            started="then",
            finished="later",
            timings_s={},
        ),
    )
    margins = {("clean", ""): CLEAN[:n], **(columns or {})}
    scores = ScoreTable(
        cases=cases,
        columns={Column(condition=c, level=v, finding="f"): np.asarray(m, np.float32) for (c, v), m in margins.items()},
        quantities={
            Quantity(condition=c, name=name, level=level, finding="f"): np.asarray(v, np.float32)
            for (c, name, level), v in (quantities or {}).items()
        },
        full_search=frozenset(full),
    )
    return FinishedRun(folder=Path(folder), record=record, scores=scores)


def worse(margins, share=0.15, seed=1):
    """The same margins with a share of all cases put on the wrong side."""
    hit = np.random.default_rng(seed).random(len(margins)) < share
    return np.where(hit, -margins, margins)


def verdicts(regression):
    return {(row.check, row.quantity): row.verdict for row in regression.rows}


def shuffled(run, seed=0):
    order = np.random.default_rng(seed).permutation(len(run.record.cases))
    record = replace(
        run.record,
        cases=tuple(run.record.cases[i] for i in order),
        patients=run.record.patients[order],
        labels=run.record.labels[order],
    )
    columns = {key: values[order] for key, values in run.scores.columns.items()}
    return replace(run, record=record, scores=replace(run.scores, cases=record.cases, columns=columns))


def test_an_identical_baseline_has_nothing_regressed():
    shift = condition("shift.xr.dose", DOSE)
    columns = {("shift.xr.dose", level.name): CLEAN - 0.1 for level in DOSE}
    run = finished(columns, measured=[shift])
    found = compare(run, run)
    assert found.paired
    assert set(verdicts(found).values()) == {SAME}
    assert len(found.rows) == 6
    assert found.verdict is SAME


def test_a_planted_drop_is_found_in_its_check_only():
    shift = condition("shift.xr.dose", DOSE)
    before = finished({("shift.xr.dose", level.name): CLEAN for level in DOSE}, measured=[shift])
    now = finished({("shift.xr.dose", "0.5"): CLEAN, ("shift.xr.dose", "0.1"): worse(CLEAN)}, measured=[shift])
    found = compare(now, before)
    by_check = {row.check: [r.verdict for r in found.rows if r.check == row.check] for row in found.rows}
    assert by_check == {"clean.performance": [SAME] * 3, "shift.xr.dose": [REGRESSED] * 3}
    assert {row.level.name for row in found.rows if row.check == "shift.xr.dose"} == {"0.1"}
    assert "McNemar p" in next(row.reason for row in found.rows if row.quantity == "sensitivity loss" and row.level)
    assert found.verdict is REGRESSED


def test_a_gain_is_no_regression_and_the_roles_are_not_symmetric():
    good, bad = finished(), finished({("clean", ""): worse(CLEAN)})
    assert set(verdicts(compare(good, bad)).values()) == {SAME}
    assert set(verdicts(compare(bad, good)).values()) == {REGRESSED}


def test_the_order_of_cases_does_not_matter():
    good, bad = finished(), finished({("clean", ""): worse(CLEAN, 0.02)})
    one, other = compare(bad, good), compare(bad, shuffled(good))
    assert other.paired
    assert [row.model_dump() for row in one.rows] == [row.model_dump() for row in other.rows]


def test_other_cases_are_compared_unpaired_wider_and_say_so():
    before, now = finished(digest="d"), finished({("clean", ""): worse(CLEAN, 0.02)}, digest="e")
    paired = compare(replace(now, record=replace(now.record, data=before.record.data)), before)
    unpaired = compare(now, before)
    assert not unpaired.paired
    assert "other cases" in unpaired.pairing
    for a, b in zip(paired.rows, unpaired.rows, strict=True):
        assert b.loss.estimate == pytest.approx(a.loss.estimate, abs=1e-9)
        assert b.loss.upper - b.loss.lower > a.loss.upper - a.loss.lower


def test_unpaired_interval_is_newcombes():
    """Sensitivity 540/600 then 480/600 now, no other comparison that varies: the joint level is the only difference."""
    before, now = finished(digest="d"), finished({("clean", ""): worse(CLEAN, 0.2)}, digest="e")
    row = next(row for row in compare(now, before).rows if row.quantity == "sensitivity loss")
    assert row.loss.estimate == pytest.approx(row.baseline.estimate - row.current.estimate)
    assert "MOVER of Wilson" in row.loss.method


def test_runs_with_another_salt_are_not_paired():
    now = finished(cases=tuple(f"hash{i}" for i in range(N)))
    found = compare(now, finished())
    assert not found.paired
    assert "side by side" in found.pairing


def test_too_few_cases_cannot_tell():
    few = LABEL[:30]
    found = compare(finished({("clean", ""): CLEAN[:30] + 0.01}, label=few), finished(label=few))
    assert OPEN in verdicts(found).values()
    assert found.verdict is OPEN
    assert any("would decide" in row.reason for row in found.rows if row.verdict is OPEN)


def test_what_is_no_longer_measured_cannot_tell():
    shift = condition("shift.xr.dose", DOSE)
    columns = {("shift.xr.dose", level.name): CLEAN for level in DOSE}
    before = finished(columns, measured=[shift])
    gone = compare(finished(), before)
    fewer = compare(finished(columns, measured=[condition("shift.xr.dose", DOSE[:1])]), before)
    other = compare(finished(columns, measured=[condition("shift.xr.dose", DOSE, draws=2)]), before)
    for found, reason in ((gone, "did not measure it"), (fewer, "at 0.1 of the exposure"), (other, "draws 2 (now)")):
        rows = [row for row in found.rows if row.check == "shift.xr.dose"]
        assert {row.verdict for row in rows} == {OPEN}
        assert all(reason in row.reason for row in rows)


def test_what_is_new_is_listed_not_judged():
    shift = condition("shift.xr.dose", DOSE)
    found = compare(finished(measured=[shift]), finished())
    assert found.not_compared == ["shift.xr.dose: not measured in the baseline"]
    assert found.verdict is SAME


def test_masked_gradients_do_not_pass_as_robustness():
    level = (Level(name="1/255", value=1 / 255, unit="of display range"),)
    attack = condition("attack.fgsm", level)
    columns = {("attack.fgsm", "1/255"): CLEAN}
    masked = {("attack.fgsm", "zero_gradient", "1/255"): np.ones(N)}
    found = compare(finished(columns, measured=[attack], quantities=masked), finished(columns, measured=[attack]))
    rows = [row for row in found.rows if row.check == "attack.fgsm"]
    assert {row.quantity for row in rows} == {"sensitivity loss", "specificity loss"}  # no full search, no ranking
    assert {row.verdict for row in rows} == {OPEN}


def test_a_shortcut_that_grows_is_a_regression():
    fills = tuple(
        Level(name=name, value=i, unit="fill") for i, name in enumerate(("atlas-mean", "atlas-blur", "atlas-donor"))
    )
    masked = condition("shortcut.masked-anatomy", fills)
    noise = np.random.default_rng(8).normal(size=(3, N))
    before = finished({(masked.id, f.name): noise[i] for i, f in enumerate(fills)}, measured=[masked])
    now = finished({(masked.id, f.name): noise[i] + LABEL for i, f in enumerate(fills)}, measured=[masked])
    assert verdicts(compare(now, before))[masked.id, "AUROC without anatomy, rise"] is REGRESSED
    assert verdicts(compare(before, now))[masked.id, "AUROC without anatomy, rise"] is SAME


def test_one_class_and_broken_margins_cannot_tell():
    one = np.ones(40)
    assert OPEN in verdicts(compare(finished(label=one), finished({("clean", ""): CLEAN[:40] + 1}, label=one))).values()
    broken = np.where(np.arange(N) < 3, np.inf, CLEAN)
    found = compare(finished({("clean", ""): broken}), finished())
    assert set(verdicts(found).values()) == {OPEN}
    assert all("NaN or infinity on 3" in row.reason for row in found.rows)


def test_at_the_margin_itself_few_are_wrongly_cleared():
    """True loss of sensitivity at the margin: one-sided error at most 2.5 %, less by the joint level."""
    margin, cleared, draws = MARGINS["sensitivity"], 0, 60
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        before = np.where(rng.random(N) < 0.9, 1.0, -1.0) * np.where(LABEL == 1, 1, -1)
        lost = (rng.random(N) < margin / 0.9) & (LABEL == 1)
        now = np.where(lost & (before > 0), -1.0, before)
        found = compare(finished({("clean", ""): now}), finished({("clean", ""): before}))
        cleared += verdicts(found)["clean.performance", "sensitivity loss"] is SAME
    assert cleared <= 4


class TestCommand:
    @pytest.fixture
    def gate(self, workshop, monkeypatch):
        monkeypatch.chdir(workshop)
        monkeypatch.setenv("NO_COLOR", "1")
        runner = CliRunner()
        with (workshop / "plan.toml").open("a") as file:
            tables = ('"attack.fgsm"', '"attack.pgd-linf"', '"shift.xr.dose"')
            judged = "".join(f"{id} = {{ tolerance = 0.98, critical_harm = 1.0 }}\n" for id in tables)
            file.write(f"\n[checks]\n{judged}")
        run_audit(read_plan(workshop / "plan.toml"), folder=workshop / "base")
        return lambda *arguments: runner.invoke(app, ["gate", "plan.toml", "--run-folder", "run", *map(str, arguments)])

    def test_the_same_model_has_not_regressed(self, gate, workshop):
        done = gate("--baseline", "base")
        result = AuditResult.read(workshop / "run" / "result.json")
        assert result.regression.verdict is SAME
        assert result.regression.baseline == "base"
        assert done.exit_code == 3, done.output  # the gate itself has too few cases
        assert "against the baseline: not regressed" in done.stderr
        assert "Against the baseline" in done.stdout
        for name in ("report.html", "report.md", "report.junit.xml"):
            assert "not regressed" in (workshop / "run" / name).read_text()

    def test_a_worse_model_exits_1(self, gate, edit, workshop):
        text = (workshop / "model.py").read_text()
        (workshop / "model.py").write_text(text.replace("return 20 * (x.mean", "return -20 * (x.mean"))
        edit(
            'inconclusive = "allow"' if "allow" in (workshop / "plan.toml").read_text() else "seed = 7",
            'seed = 7\ninconclusive = "allow"',
        )
        done = gate("--baseline", "base", "--json")
        assert done.exit_code == 1, done.output
        assert json.loads(done.stdout)["result"]["regression"]["verdict"] == "regressed"

    @pytest.mark.parametrize(("policy", "code"), [("block", 3), ("allow", 0)])
    def test_cannot_tell_is_a_warning_that_the_plan_may_block(self, gate, edit, workshop, policy, code):
        edit("seed = 7", f'seed = 7\ninconclusive = "{policy}"')
        text = (workshop / "model.py").read_text()
        (workshop / "model.py").write_text(
            text.replace("20 * (x.mean((1, 2, 3)) - 0.5)", "20 * (x.mean((1, 2, 3)) - 0.497)")
        )
        done = gate("--baseline", "base")
        assert done.exit_code == code, done.output
        assert "warning: cannot tell" in done.stderr

    def test_a_missing_baseline_is_an_error_or_a_notice(self, gate, workshop):
        done = gate("--baseline", "nowhere")
        assert done.exit_code == 2
        assert "--allow-missing-baseline" in done.stderr
        assert not (workshop / "run").exists()  # said before anything was measured
        done = gate("--baseline", "nowhere", "--allow-missing-baseline", "--json")
        result = AuditResult.model_validate(json.loads(done.stdout)["result"])
        assert result.regression is None
        assert "recorded, not compared" in result.notices[0]

    def test_other_wrong_usage_is_a_message(self, gate, workshop):
        (workshop / "empty").mkdir()
        assert "no finished run" in gate("--baseline", "empty").stderr
        assert "needs --baseline" in gate("--allow-missing-baseline").stderr
        shutil.rmtree(workshop / "base" / "chunks")
        done = gate("--baseline", "base")
        assert done.exit_code == 2
        assert "do not hold" in done.stderr
