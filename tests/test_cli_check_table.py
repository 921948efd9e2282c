"""check-table on the command line: answers, exit codes, messages."""

import json

import pytest
from typer.testing import CliRunner

from robustbench_rad.cli import app

DENSENET = ["--precision", ".970", "--recall", ".968"]


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments):
        return CliRunner().invoke(app, ["check-table", *map(str, arguments)])

    return run


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*DENSENET, "--f1", ".969"], 0, "consistent"),
        ([*DENSENET, "--f1", ".967"], 1, "f1 is printed 0.967; the rest allows 0.9685 to 0.9695"),
        (["--precision", "98", "--recall", "95", "--f1", "95.8"], 1, "0.9598 to 0.9698"),
        (DENSENET, 3, "cannot tell"),
        (["--sum", "6952 + 1676 = 8643"], 1, "6952 + 1676 = 8628, not 8643 (15 less)"),
        (["--sum", "6952 + 1676 = 8628"], 0, "adds up"),
        (["--recall", ".85", "--n", "69", "--positives", "66"], 0, "4 confusion tables fit"),
    ],
)
def test_answers_and_exit_codes(call, arguments, code, words):
    done = call(*arguments)
    assert done.exit_code == code, done.output
    assert words in done.stdout


def test_the_worst_row_decides(call, tmp_path):
    path = tmp_path / "published.csv"
    path.write_text("model,precision,recall,f1\nA,.970,.968,.969\nB,.970,.968,\n")
    assert call(path).exit_code == 3
    path.write_text("model,precision,recall,f1\nA,.970,.968,.967\nB,.970,.968,\n")
    done = call(path)
    assert done.exit_code == 1
    assert "✕ cannot hold together  A" in done.stdout
    assert "? cannot tell  B" in done.stdout


def test_json_is_one_object(call):
    done = call("--precision", "97.0", "--recall", "96.8", "--f1", "96.7", "--sum", "1 + 1 = 2", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == found["exit_code"] == 1
    assert found["rows"][0]["verdict"] == "cannot hold together"
    assert found["rows"][0]["figures"][2]["reachable"] == pytest.approx([0.9685, 0.9695], abs=1e-5)
    assert found["sums"] == [{"holds": True, "text": "1 + 1 = 2"}]
    assert "percent" in found["notes"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no figure to check"),
        (["--recall", "1.2.3"], "recall: expected a number, got '1.2.3'"),
        (["--recall", "-1"], "recall: expected a number from 0 to 1, got '-1'"),
        (["--recall", ".5", "--n", "ten"], "n: expected a whole number, got 'ten'"),
        (["--sum", "1 + 2"], "expected whole numbers as in"),
        (["nowhere.csv"], "nowhere.csv: no such file"),
    ],
)
def test_bad_input_is_a_message_with_exit_code_2(call, arguments, words):
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_hostile_model_names_cannot_steer_the_terminal(call, tmp_path):
    path = tmp_path / "published.csv"
    path.write_text("model,precision,recall,f1\n\x1b[31m[red]evil,.970,.968,.967\n")
    done = call(path)
    assert "\x1b" not in done.output
    assert "[red]evil" in done.stdout
