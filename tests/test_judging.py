"""A finished run is judged again from what lies in its folder, and what was not measured never passes."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from robustbench_rad.audit import run_audit
from robustbench_rad.cli import app
from robustbench_rad.errors import PlanError, RunFolderError
from robustbench_rad.judging import FILE, FinishedRun
from robustbench_rad.measured import NOT_MEASURED
from robustbench_rad.plan import read_plan
from robustbench_rad.result import AuditResult, Verdict
from robustbench_rad.scores import read_sealed, write_sealed

OTHER_TIMES = {"provenance": {"timings_s", "finished"}}


@pytest.fixture
def finished(workshop):
    """The workshop's run; model and images are gone."""
    result = run_audit(read_plan(workshop / "plan.toml"), folder=workshop / "run").result
    (workshop / "model.py").unlink()
    (workshop / "cases.csv").unlink()
    shutil.rmtree(workshop / "images")
    return result


@pytest.fixture
def gate(workshop, monkeypatch):
    monkeypatch.chdir(workshop)
    monkeypatch.setenv("NO_COLOR", "1")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["gate", *map(str, arguments)])


def profile(workshop, *changes, name="release.toml"):
    text = (workshop / "profile.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (workshop / name).write_text(text)
    return workshop / name


def of(result, check):
    return [criterion for criterion in result.criteria if criterion.check == check]


def test_the_same_profile_gives_the_same_result_without_model_and_images(workshop, finished):
    again = FinishedRun.read(workshop / "run").judge()
    assert again.notices[0].startswith("Judged again under tiny v1")
    again = again.model_copy(update={"notices": again.notices[1:]})
    assert again.model_dump(exclude=OTHER_TIMES) == finished.model_dump(exclude=OTHER_TIMES)


def test_another_tolerance_gives_another_verdict(workshop, finished):
    harm = of(finished, "attack.fgsm")[0].harm
    assert harm.upper is not None
    lenient = profile(
        workshop,
        ('epsilon = ["1/255", "4/255"]', 'epsilon = ["1/255", "4/255"]\ntolerance = 0.98\ncritical_harm = 1.0'),
    )
    strict = profile(
        workshop, ('epsilon = ["1/255", "4/255"]', 'epsilon = ["1/255", "4/255"]\ntolerance = -0.5'), name="strict.toml"
    )
    run = FinishedRun.read(workshop / "run")
    assert {c.verdict for c in of(run.judge(lenient), "attack.fgsm")} == {Verdict.PASS}
    assert {c.verdict for c in of(run.judge(strict), "attack.fgsm")} == {Verdict.FAIL}
    assert run.judge(strict).provenance.policy_sha256 != finished.provenance.policy_sha256
    assert run.judge(strict).provenance.measurement_sha256 == finished.provenance.measurement_sha256
    assert run.judge(strict).plan["profile"] == "strict.toml"


def test_a_level_that_was_not_measured_never_passes(workshop, finished):
    everything = ("levels = [0.5, 0.1]", "levels = [0.5]\ntolerance = 0.98\ncritical_harm = 0.99")
    more = ("levels = [0.5, 0.1]", "levels = [0.5, 0.05]\ntolerance = 0.98\ncritical_harm = 0.99")
    run = FinishedRun.read(workshop / "run")
    fewer = run.judge(profile(workshop, everything))
    assert {c.verdict for c in of(fewer, "shift.xr.dose")} == {Verdict.PASS}
    assert fewer.complete
    missing = run.judge(profile(workshop, more))
    assert {c.verdict for c in of(missing, "shift.xr.dose")} == {Verdict.INCONCLUSIVE}
    assert all(f"{NOT_MEASURED}: 0.05" in c.reason for c in of(missing, "shift.xr.dose"))
    assert {c.points for c in of(missing, "shift.xr.dose")} == {0.0}
    assert not missing.complete


def test_a_level_that_was_measured_still_fails_beside_one_that_was_not(workshop, finished):
    change = ("levels = [0.5, 0.1]", "levels = [0.5, 0.05]\ntolerance = -1.0\ncritical_harm = 0.1")
    result = FinishedRun.read(workshop / "run").judge(profile(workshop, change))
    assert {c.verdict for c in of(result, "shift.xr.dose")} == {Verdict.FAIL}


@pytest.mark.parametrize(
    ("change", "check", "reason"),
    [
        (("steps = 4", "steps = 40"), "attack.pgd-linf", "steps 4 (measured), 40 (asked for)"),
        (("levels = [0.5, 0.1]", "levels = [0.3]"), "shift.xr.dose", "0.3 of the exposure"),
        (
            ('[checks."attack.fgsm"]\nepsilon = ["1/255", "4/255"]', '[checks."saliency.parameter-randomisation"]'),
            "saliency.parameter-randomisation",
            "saliency.parameter-randomisation",
        ),
    ],
    ids=["other options", "other levels", "other condition"],
)
def test_what_was_not_measured_is_inconclusive_with_the_reason(workshop, finished, change, check, reason):
    result = FinishedRun.read(workshop / "run").judge(profile(workshop, change))
    (criterion,) = of(result, check)
    assert criterion.verdict is Verdict.INCONCLUSIVE
    assert NOT_MEASURED in criterion.reason
    assert reason in criterion.reason
    assert not result.complete


def test_the_same_level_written_differently_is_the_same(workshop, finished):
    result = FinishedRun.read(workshop / "run").judge(
        profile(workshop, ("levels = [0.5, 0.1]", 'levels = ["0.50", 0.1]'))
    )
    assert result.complete


def test_the_quick_profile_can_be_asked_for(workshop, finished):
    result = FinishedRun.read(workshop / "run").judge("quick")
    assert result.provenance.profile.startswith("quick v")
    assert NOT_MEASURED in of(result, "attack.pgd-linf")[0].reason


def test_the_record_holds_hashes_and_codes_only(workshop, finished):
    header, arrays = read_sealed(workshop / "run" / FILE)
    assert all(len(case) == 24 and int(case, 16) >= 0 for case in header["cases"])
    assert sorted(np.unique(arrays["patients"])) == list(range(30))
    assert "images/" not in json.dumps(header)
    assert sorted(arrays["ranks"]) == list(range(36))
    assert arrays["ranks"][:3].tolist() == [0, 1, 12]  # 0.png, 1.png, then 10.png to 19.png before 2.png
    assert set(header["case_set"]) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "expected format 2, got 1"),
        ({"ranks": [0] * 36}, "do not number 36 cases"),
        ({"ranks": list(range(35))}, "its 35 ranks do not number 36 cases"),
    ],
    ids=["older format", "ranks twice", "too few ranks"],
)
def test_a_record_of_another_format_or_without_order_is_refused_with_what_to_do(workshop, finished, change, message):
    header, arrays = read_sealed(workshop / "run" / FILE)
    arrays = {**arrays, **({"ranks": np.array(change["ranks"])} if "ranks" in change else {})}
    write_sealed(workshop / "run" / FILE, {**header, "format": change.get("format", header["format"])}, arrays)
    with pytest.raises(RunFolderError, match=message) as refused:
        FinishedRun.read(workshop / "run")
    assert "Run its audit again" in refused.value.hint


class TestCommand:
    def test_writes_the_result_and_exits_like_a_gate(self, workshop, finished, gate):
        profile(workshop, ('epsilon = ["1/255", "4/255"]', 'epsilon = ["1/255", "4/255"]\ntolerance = -0.5'))
        done = gate("--result", "run", "--profile", "release.toml", "--out", "again.json")
        assert done.exit_code == 1, done.output
        assert AuditResult.read(workshop / "again.json").verdict is Verdict.FAIL
        assert gate("--result", "again.json").exit_code == 2  # it lies in no run folder

    def test_prints_one_json_object(self, workshop, finished, gate):
        done = gate("--result", "run", "--json", "-q")
        assert done.exit_code in (1, 3)
        assert AuditResult.model_validate(json.loads(done.stdout)["result"]).title == "A small audit"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "got neither"),
            (["plan.toml", "--result", "run"], "got both"),
            (["--result", "nowhere"], "no such run folder"),
            (["--result", "run", "--device", "cpu"], "--device has no meaning"),
            (["--result", "run", "--workers", "0"], "--workers has no meaning"),
            (["--result", "run", "--profile", "quik"], "'quik'"),
            (["plan.toml", "--out", "x.json"], "--out needs --result"),
            (["--result", "plan.toml"], "no finished run"),
            (["--result", "run", "--baseline", "nowhere"], "--baseline nowhere: no such run folder"),
            (["--result", "run", "--baseline", "images"], "no such run folder"),
            (["--result", "run", "--allow-missing-baseline"], "--allow-missing-baseline needs --baseline"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_usage_is_a_message_with_exit_code_2(self, finished, gate, arguments, message):
        done = gate(*arguments)
        assert done.exit_code == 2, done.output
        assert message in done.stderr


def test_a_damaged_record_is_refused(workshop, finished):
    path = workshop / "run" / FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunFolderError, match="not a record that can be judged"):
        FinishedRun.read(workshop / "run")


def test_a_lost_chunk_is_refused(workshop, finished):
    (workshop / "run" / "chunks" / "000001.npz").unlink()
    with pytest.raises(RunFolderError, match="do not hold the 36 cases of its record, but 28"):
        FinishedRun.read(workshop / "run")


def test_a_profile_with_an_unknown_option_is_refused(workshop, finished):
    with pytest.raises(PlanError, match="unknown option 'stepz'"):
        FinishedRun.read(workshop / "run").judge(profile(workshop, ("steps = 4", "stepz = 4")))


def test_all_checks_can_be_judged_together_without_measuring_again(workshop, finished):
    together = profile(workshop, ("version =", 'multiplicity = "audit"\nversion ='))
    result = FinishedRun.read(workshop / "run").judge(together)
    assert result.provenance.policy_sha256 != finished.provenance.policy_sha256
    assert any("judges all checks together" in notice for notice in result.notices)
    pairs = [
        (a.harm, b.harm) for a, b in zip(result.criteria, finished.criteria, strict=True) if a.harm.upper is not None
    ]
    assert all(a.upper >= b.upper - 1e-12 and a.confidence >= b.confidence for a, b in pairs)
    assert any(a.upper > b.upper for a, b in pairs)
