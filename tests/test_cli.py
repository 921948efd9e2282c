"""The command line: exit codes, messages without tracebacks, one JSON object, light help."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from robustbench_rad.cli import app

HEAVY = ("torch", "numpy", "pandas", "matplotlib", "captum", "albumentations", "scipy", "pydicom")


@pytest.fixture
def call(workshop, monkeypatch):
    """Run a command in the workshop; returns the finished process's result."""
    monkeypatch.chdir(workshop)
    monkeypatch.setenv("NO_COLOR", "1")
    runner = CliRunner()

    def run(*arguments):
        return runner.invoke(app, [str(argument) for argument in arguments])

    return run


def command(*arguments, cwd):
    return [sys.executable, "-m", "robustbench_rad.cli", *arguments], {"cwd": cwd, "env": {**os.environ, "CI": "1"}}


def test_audit_exits_0_and_writes_the_reports(call, workshop):
    done = call("audit", "plan.toml", "--run-folder", "run")
    assert done.exit_code == 0, done.output
    for name in ("result.json", "report.html", "report.md", "report.junit.xml"):
        assert (workshop / "run" / name).stat().st_size > 500
    assert "A small audit" in done.stdout
    assert "chunk 5/5" in done.stderr


def test_json_is_one_object_and_nothing_else(call):
    done = call("audit", "plan.toml", "--run-folder", "run", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["result"]["title"] == "A small audit"


def test_quiet_prints_no_progress(call):
    done = call("audit", "plan.toml", "--run-folder", "run", "-q")
    assert done.stderr == ""


def test_gate_exits_1_on_a_failed_check(call):
    """At 4/255 the mean of the image moves by half of what parts the classes."""
    done = gate_of(call, 0.0)
    assert done.exit_code == 1, done.output


def gate_of(call, tolerance):
    with open("plan.toml", "a") as file:
        file.write(f'\n[checks]\n"attack.fgsm" = {{ tolerance = {tolerance}, critical_harm = 1.0 }}\n')
    return call("gate", "plan.toml", "--run-folder", "run", "-q")


def test_gate_exits_3_when_nothing_fails_but_the_data_are_too_few(call):
    done = gate_of(call, 0.99)
    assert done.exit_code == 3, done.output


def test_gate_exits_0_on_inconclusive_when_the_plan_allows_it(call, edit):
    edit("seed = 7", 'seed = 7\ninconclusive = "allow"')
    done = gate_of(call, 0.99)
    assert done.exit_code == 0
    assert "warning: inconclusive" in done.stderr


def test_allowing_inconclusive_does_not_cover_a_critical_check_that_was_left_out(call, edit):
    edit("seed = 7", 'seed = 7\ninconclusive = "allow"')
    with open("plan.toml", "a") as file:
        file.write('\n[checks]\n"shortcut.masked-anatomy" = false\n"attack.fgsm" = { tolerance = 0.99 }\n')
    edit('"attack.fgsm" = { tolerance = 0.99 }', '"attack.fgsm" = { tolerance = 0.99, critical_harm = 1.0 }')
    done = call("gate", "plan.toml", "--run-folder", "run", "-q")
    assert done.exit_code == 3, done.output
    assert "critical checks were not run: shortcut.masked-anatomy" in done.stderr.replace("\n", " ")


def test_allowing_inconclusive_does_not_cover_zero_checks(call, edit, workshop):
    edit("seed = 7", 'seed = 7\ninconclusive = "allow"')
    (workshop / "profile.toml").write_text('name = "empty"\nversion = 1\n[domains.clean]\n[checks]\n')
    assert call("gate", "plan.toml", "--run-folder", "run", "-q").exit_code == 3


COMMANDS = [
    *(
        [name]
        for name in ("audit", "gate", "show", "list", "demo", "init", "check-table", "measure", "medmnist-c", "power")
    ),
    *([name] for name in ("selftest", "sheet", "profile")),
    ["profile", "lock"],
    ["profile", "show"],
]


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=" ".join)
def test_help_is_whole_at_eighty_columns(call, monkeypatch, words):
    """No name of an option is cut, and every word of its help is printed, brackets too."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    shown = call(*words, "--help").stdout
    assert not any(len(line) > 80 for line in shown.splitlines())
    said = " ".join(shown.replace("│", " ").split())
    found = typer.main.get_command(app)
    for word in words:
        found = found.commands[word]
    for parameter in found.params:
        assert all(name in said for name in parameter.opts if name.startswith("--")), parameter.opts
        assert set(re.sub(r"\s+", " ", parameter.help or "").split()) <= set(said.split()), parameter.help
    assert " ".join((found.help or "").split()) in said


def test_a_locked_profile_cannot_be_loosened_by_a_plan(call, workshop):
    assert call("profile", "lock", "profile.toml").exit_code == 0
    with open("plan.toml", "a") as file:
        file.write('\n[checks]\n"attack.fgsm" = { tolerance = 0.99, critical_harm = 1.0 }\n')
    done = call("audit", "plan.toml")
    assert done.exit_code == 2
    assert "is locked, and the plan changes attack.fgsm" in done.stderr.replace("\n", " ")


def test_a_plan_that_changes_its_profile_says_so(call):
    gate_of(call, 0.99)
    shown = json.loads(call("show", "run", "--json").stdout)
    assert "modified by the plan" in shown["provenance"]["profile"]
    assert any("attack.fgsm" in notice for notice in shown["notices"])


def test_show_prints_a_finished_result(call):
    call("audit", "plan.toml", "--run-folder", "run", "-q")
    assert "A small audit" in call("show", "run").stdout
    assert json.loads(call("show", "run/result.json", "--json").stdout)["schema_version"]


def test_list_names_conditions_and_checks(call):
    rows = json.loads(call("list", "--json").stdout)["checks"]
    ids = {row["id"] for row in rows}
    assert {"attack.pgd-linf", "shift.ct.kernel", "shortcut.scanner-dependence"} <= ids
    assert all(row["summary"] for row in rows)
    shown = call("list", "shift")
    assert "shift.ct.dose" in shown.stdout
    assert "attack." not in shown.stdout
    assert "attack.pgd-l2" in call("list", "PGD").stdout


def test_list_says_what_is_judged_and_what_is_only_shown(call):
    use = {row["id"]: row["use"] for row in json.loads(call("list", "attack", "--json").stdout)["checks"]}
    assert use["attack.pgd-linf"] == "judged"
    assert use["attack.curve-linf"] == "shown, not judged"
    assert use["attack.patch"] == "judged only where profile or plan states a tolerance"
    told = {id: " ".join(call("list", id, "-v").stdout.split()) for id in use}
    assert "tolerance hide 0.3" in told["attack.pgd-linf"]
    assert "tolerance hide" not in told["attack.curve-linf"]
    assert use["attack.patch"] in told["attack.patch"]
    assert not any("`" in text for text in told.values())


BAD = {
    "missing plan": (None, ["audit", "nowhere.toml"], r"nowhere\.toml: cannot be read"),
    "unknown key": (("seed = 7", "seeed = 7"), ["audit", "plan.toml"], r"seeed: unknown key\. Did you mean 'seed'"),
    "wrong value": (('head = "single-logit"', 'head = "sigmod"'), ["audit", "plan.toml"], r"head.*'sigmod'"),
    "missing manifest": (('"cases.csv"', '"gone.csv"'), ["audit", "plan.toml"], r"gone\.csv"),
    "wrong column": (('bright = "label"', 'bright = "lable"'), ["audit", "plan.toml"], r"lable.*\n?.*label"),
    "unknown check": (
        ("[run]", '[checks]\n"attack.pgdlinf" = true\n[run]'),
        ["audit", "plan.toml"],
        r"attack\.pgd-linf",
    ),
    "unknown option": (
        ("[run]", '[checks."attack.pgd-linf"]\nstep = 3\n[run]'),
        ["audit", "plan.toml"],
        r"unknown option 'step'.*\n?.*steps",
    ),
    "unknown goal": (
        ("[run]", '[checks."attack.pgd-linf"]\ngoal = "hide"\n[run]'),
        ["audit", "plan.toml", "--price"],
        r"unknown option 'goal'.*\n?.*attack\.clinical-goals.*goals",
    ),
    "goal for goals": (
        ("[run]", '[checks."attack.clinical-goals"]\ngoal = ["quiet"]\n[run]'),
        ["audit", "plan.toml", "--price"],
        r"unknown option 'goal'.*\n?.*Did you mean 'goals'",
    ),
    "hu on a radiograph": (
        ("[run]", '[checks."attack.fgsm"]\nepsilon = ["5 HU"]\n[run]'),
        ["audit", "plan.toml", "--price"],
        r"attack\.fgsm.*level 5 HU: expected images in HU, got DX images\n.*1/255",
    ),
    "levels without those of the profile's full search": (
        ("[run]", '[checks."attack.pgd-linf"]\nepsilon = ["1/255"]\n[run]'),
        ["audit", "plan.toml", "--price"],
        r"full_search: expected .*'1/255'.*'2/255'.*from the profile: state full_search",
    ),
    "unknown id": (None, ["list", "attack.pgdlinf"], r"'attack\.pgdlinf'\n.*attack\.pgd-linf"),
    "plural of a family": (None, ["list", "shortcuts"], r"'shortcuts'\n  Did you mean 'shortcut'\?"),
    "plural inside another word": (None, ["list", "attacks"], r"'attacks'\n  Did you mean 'attack'\?"),
    "last word of an id": (None, ["list", "insert-markr"], r"Did you mean 'insert-marker'\?"),
    "unknown profile": (None, ["audit", "plan.toml", "--profile", "quik"], r"quick"),
    "missing factory": (("model.py:brightness", "model.py:brigthness"), ["audit", "plan.toml"], r"brigthness"),
    "nan output": (("model.py:brightness", "model.py:nan"), ["audit", "plan.toml"], r"NaN or infinity"),
    "wrong width": (("model.py:brightness", "model.py:wide"), ["audit", "plan.toml"], r"\(\d+, 1\).*\(\d+, 3\)"),
    "not a result": (None, ["show", "plan.toml"], r"not a result"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_message_with_exit_code_2(call, edit, name):
    change, arguments, pattern = BAD[name]
    if change:
        edit(*change)
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert re.search(pattern, done.stderr), done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (("images/4.png,p4,0", "images/4.png,p4,2"), r"cases\.csv.*label.*'2'"),
        (("images/4.png,p4", "images/gone.png,p4"), r"gone\.png"),
        (("images/4.png,p4", "images/5.png,p4"), r"images/5\.png"),
        (("patient,label", "patient,lable"), r"cases\.csv.*'label'"),
    ],
    ids=["label outside 0, 1, empty", "missing image", "duplicate case", "wrong column"],
)
def test_bad_manifest_is_a_message_with_exit_code_2(call, edit, change, pattern):
    edit(*change, "cases.csv")
    done = call("audit", "plan.toml")
    assert done.exit_code == 2, done.output
    assert re.search(pattern, done.stderr.replace("\n", " ")), done.stderr
    assert "Traceback" not in done.output


def unusable(done, *patterns):
    """Exit code 2, every pattern in the message, no traceback."""
    assert done.exit_code == 2, done.output
    for pattern in patterns:
        assert re.search(pattern, done.stderr), done.stderr
    assert "Traceback" not in done.output


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_truncated_png_is_a_message(call, workshop):
    cut(workshop / "images" / "4.png", 0.5)
    unusable(call("audit", "plan.toml"), r"1 of 36 cases", r"images/4\.png: cannot be decoded", "on_unreadable")


@pytest.fixture
def with_film(write_dicom, edit):
    """Put a DICOM film in the place of one PNG; keyword arguments are its attributes."""

    def make(**attributes):
        path = write_dicom(np.full((20, 20), 100, np.uint8), "images/4.dcm", **attributes)
        edit("images/4.png", "images/4.dcm", "cases.csv")
        return path

    return make


def test_a_whole_dicom_film_is_audited(call, with_film):
    with_film()
    done = call("audit", "plan.toml", "-q")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_dicom_is_a_message(call, with_film, share):
    cut(with_film(), share)
    unusable(call("audit", "plan.toml"), r"1 of 36 cases", r"images/4\.dcm: ")


def test_dicom_without_pixel_data_is_a_message(call, with_film):
    with_film(PixelData=None)
    unusable(call("audit", "plan.toml"), r"1 of 36 cases", r"images/4\.dcm: the DICOM file has no pixel data")


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (("[data]", "[data]\nstored_bits = 7"), r"expected \[0, 127\] for 7 stored bits, got \[\d+, \d{3}\]"),
        (("[data]", "[data]\nstored_bits = 12"), r"stored_bits = 12 is declared, but the file stores 8 bits"),
    ],
    ids=["too few bits", "too many bits"],
)
def test_an_image_outside_its_declared_range_is_a_message(call, edit, change, pattern):
    edit(*change)
    unusable(call("audit", "plan.toml"), pattern)


@pytest.mark.parametrize(("command", "code"), [("audit", 0), ("gate", 3)])
def test_a_finding_of_one_class_never_passes(call, workshop, command, code):
    table = workshop / "cases.csv"
    table.write_text(re.sub(r",1,([AB]),", r",0,\1,", table.read_text()))
    done = call(command, "plan.toml", "--run-folder", "run", "-q", "--json")
    assert done.exit_code == code, done.output
    result = json.loads(done.stdout)["result"]
    assert result["verdict"] == "inconclusive"
    clean = [c for c in result["criteria"] if c["check"] == "clean.performance"]
    assert clean
    assert "pass" not in {criterion["verdict"] for criterion in clean}


def test_empty_manifest_is_a_message_with_exit_code_2(call, workshop):
    (workshop / "cases.csv").write_text("image,patient,label,scanner,mask\n")
    done = call("audit", "plan.toml")
    assert done.exit_code == 2
    assert "cases.csv" in done.stderr


def test_weights_that_do_not_fit_list_the_keys(call, edit, workshop):
    import torch

    torch.save({"0.weight": torch.zeros(4, 1, 3, 3), "stem.bias": torch.zeros(4)}, workshop / "w.pt")
    edit('factory = "model.py:brightness"', 'factory = "model.py:build"\nweights = "w.pt"')
    done = call("audit", "plan.toml")
    assert done.exit_code == 2
    assert "0.bias" in done.stderr
    assert "stem.bias" in done.stderr


def test_errors_are_json_too(call):
    done = call("audit", "nowhere.toml", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["hint"]


USAGE = {
    "missing argument": (["audit"], "Missing argument 'plan'"),
    "bad option": (["audit", "plan.toml", "--sed", "3"], "No such option: --sed"),
    "bad value": (["audit", "plan.toml", "--workers", "many"], "Invalid value for '--workers'"),
    "unknown command": (["adit"], "No such command 'adit'"),
    "bad option of a sub-command": (["profile", "lock", "--sed"], "No such option: --sed"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage_errors_are_json_too(call, name):
    arguments, message = USAGE[name]
    done = call(*arguments, "--json")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "usage error"
    assert message in error["message"]
    assert "--help" in error["hint"]
    assert "Usage:" in done.stderr
    plain = call(*arguments)
    assert (plain.exit_code, plain.stdout) == (2, "")
    assert "Usage:" in plain.stderr


def test_help_is_no_error(call):
    done = call("audit", "--help", "--json")
    assert done.exit_code == 0
    assert "Usage:" in done.stdout


def test_a_run_folder_of_another_plan_is_refused(call, edit):
    call("audit", "plan.toml", "--run-folder", "run", "-q")
    edit("seed = 7", "seed = 8")
    done = call("audit", "plan.toml", "--run-folder", "run")
    assert done.exit_code == 2
    assert "another plan" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="advisory locks and permissions are POSIX here")
def test_a_read_only_place_is_a_message(call, workshop):
    blocked = workshop / "file"
    blocked.write_text("not a folder")
    done = call("audit", "plan.toml", "--run-folder", blocked / "run")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC], ids=["denied", "read-only", "full"])
def test_a_folder_that_cannot_be_written_is_a_message(call, monkeypatch, number):
    """By the system's own error, for a test that runs as root may write anywhere."""

    def refuse(path, mode="r", *arguments, **options):
        if "w" in mode or "x" in mode:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, mode, *arguments, **options)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    done = call("audit", "plan.toml", "--run-folder", "run")
    assert done.exit_code == 2, done.output
    assert os.strerror(number) in done.stderr


def test_internal_errors_exit_4_and_ask_for_a_report(call, monkeypatch):
    def broken(*_arguments, **_options):
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("robustbench_rad.audit.run_audit", broken)
    done = call("audit", "plan.toml")
    assert done.exit_code == 4
    assert "bug" in done.stderr


def wait_for_chunks(folder, process, count=1, seconds=60):
    end = time.monotonic() + seconds
    while len(list(folder.glob("chunks/0*.npz"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_killed_run_resumes_to_the_same_report(workshop, edit, sent, code):
    edit("model.py:brightness", "model.py:slow")
    line, options = command("audit", "plan.toml", "--run-folder", "run", cwd=workshop)
    process = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
    wait_for_chunks(workshop / "run", process)
    process.send_signal(sent)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    if code == 130:
        assert "same command" in err
    assert not (workshop / "run" / "result.json").exists()
    subprocess.run(line, check=True, capture_output=True, **options)
    line[-1] = "whole"
    subprocess.run(line, check=True, capture_output=True, **options)
    first, second = (json.loads((workshop / name / "result.json").read_text()) for name in ("run", "whole"))
    for result in (first, second):
        del result["provenance"], result["preflight"]
    assert first == second


def imported_by(*arguments, cwd) -> set[str]:
    line, options = command(*arguments, cwd=cwd)
    line[1:1] = ["-X", "importtime"]
    done = subprocess.run(line, capture_output=True, text=True, **options)
    return {row.rpartition("|")[2].strip().partition(".")[0] for row in done.stderr.splitlines() if "|" in row}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["audit", "--help"], ["check-table", "--help"], ["power", "--help"], ["--version"], ["list"]],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(tmp_path, arguments):
    imported = imported_by(*arguments, cwd=tmp_path)
    assert "typer" in imported
    assert not imported & set(HEAVY)
