"""The selftest command: what it plants, what it prints, and its exit codes."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from robustbench_rad import cli_selftest
from robustbench_rad.cli import app
from robustbench_rad.planted import programme
from robustbench_rad.planted.programme import COMBINED, Trial

PROFILE = """
name = "only masks"
version = 1
[domains.shortcut]
[checks."shortcut.masked-anatomy"]
"""


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "masks.toml"
    path.write_text(PROFILE, "utf-8")
    return str(path)


def trial(kind, *, control=False, strength=0.0, verdict="pass", cases=400):
    return Trial(
        kind=kind,
        control=control,
        strength=strength,
        association=0.7,
        cases=cases,
        replicate=0,
        verdicts={"shortcut.masked-anatomy": verdict, COMBINED: verdict},
        statistics={"shortcut.masked-anatomy": 0.1},
    )


def test_it_plants_audits_and_prints_one_json_object(profile, monkeypatch):
    monkeypatch.setattr(cli_selftest, "STRENGTHS", (0.0, 1.0))
    kinds = ("corner marker", "device in the lung")
    monkeypatch.setattr(programme, "KINDS", kinds)
    monkeypatch.setattr(programme, "CONTROLS", programme.CONTROLS[:1])
    result = CliRunner().invoke(app, ["selftest", "--cases", "400", "--profile", profile, "--json"])
    content = json.loads(result.stdout)
    planted = {one["kind"] for one in content["trials"]}
    assert planted == {"corner marker", "device in the lung", "no shortcut"}
    found = {one["kind"]: one["verdicts"] for one in content["trials"] if one["strength"] == 1.0}
    assert found["corner marker"]["shortcut.masked-anatomy"] == "fail"
    assert found["device in the lung"]["shortcut.masked-anatomy"] != "fail"
    assert result.exit_code == (1 if content["problems"] else 0)


@pytest.mark.parametrize(
    ("trials", "said", "code"),
    [
        ([trial("kernel", strength=1.0, verdict="fail"), trial("no shortcut", control=True)], "Every strong defect", 0),
        ([trial("kernel", strength=1.0, verdict="inconclusive")], "missed: kernel worth 1 SD", 1),
        ([trial("no shortcut", control=True, verdict="fail")], "false alarm: no shortcut", 1),
        ([trial("device in the lung", strength=1.0)], "Every strong defect", 0),
        ([trial("kernel", strength=1.0, verdict="inconclusive", cases=100)], "400 cases or more are needed", 0),
    ],
)
def test_a_missed_defect_and_a_false_alarm_fail(trials, said, code, monkeypatch, profile):
    monkeypatch.setattr(cli_selftest, "_constructed", lambda *_: trials)
    result = CliRunner().invoke(app, ["selftest", "--profile", profile])
    assert said in result.stdout
    assert result.exit_code == code
    assert "What each audit finds" in result.stdout


def test_a_device_inside_counts_where_the_profile_takes_tubes_out(monkeypatch, profile):
    missed = trial("device in the lung", strength=1.0)
    missed = replace(missed, verdicts={**missed.verdicts, "shortcut.remove-tubes": "pass"})
    monkeypatch.setattr(cli_selftest, "_constructed", lambda *_: [missed])
    result = CliRunner().invoke(app, ["selftest", "--profile", profile])
    assert "missed: device in the lung worth 1 SD" in result.stdout
    assert result.exit_code == 1


def test_wrong_options_are_refused(tmp_path):
    assert CliRunner().invoke(app, ["selftest", "--cases", "3"]).exit_code == 2
    result = CliRunner().invoke(app, ["selftest", "--profile", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "neither built in nor a file" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--profile", "generic-c"], "it judges no shortcut audit"),
        (["--device", "nonsense"], "expected auto, cpu, cuda or cuda:N"),
        (["--device", "cuda:97"], "CUDA devices"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_planted(options, said, monkeypatch):
    monkeypatch.setattr(cli_selftest, "_constructed", lambda *_: pytest.fail("it ran"))
    result = CliRunner().invoke(app, ["selftest", *options])
    assert result.exit_code == 2
    assert said in result.output
