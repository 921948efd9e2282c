"""power on the command line: from a plan, a manifest, fractions and numbers alone."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from robustbench_rad.cli import app
from robustbench_rad.errors import StatisticsError
from robustbench_rad.planning_numbers import Question, answers


@pytest.fixture
def call(monkeypatch, workshop):
    monkeypatch.chdir(workshop)
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments):
        return CliRunner().invoke(app, ["power", *map(str, arguments)])

    return run


@pytest.fixture
def ask(call):
    """The one JSON object of a run that must succeed."""

    def run(*arguments):
        done = call(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


def value(found, metric, design, word):
    rows = [a for a in found["answers"] if (a["metric"], a["design"]) == (metric, design) and word in a["quantity"]]
    assert len(rows) == 1, found["answers"]
    return rows[0]["value"]


def test_cases_for_a_drop_of_sensitivity(ask):
    found = ask("--sensitivity", 0.85, "--drop", 0.10, "--power", 0.8)
    assert value(found, "sensitivity", "unpaired", "find") == 250
    # 107 as published is 107.496 rounded to the nearest; whole pairs that suffice are 108.
    assert value(found, "sensitivity", "paired", "find") == 108
    found = ask("--sensitivity", 0.85, "--drop", 0.10, "--comparisons", 10)
    assert value(found, "sensitivity", "unpaired", "find") == 425
    found = ask("--sensitivity", 0.85, "--drop", 0.05, "--paired", "--discordance", 0.09)
    assert value(found, "sensitivity", "paired", "find") == 281
    assert len(found["answers"]) == 1


def test_power_of_the_cases_in_hand(ask):
    found = ask("--sensitivity", 0.85, "--drop", 0.10, "--positives", 66)
    assert value(found, "sensitivity", "unpaired", "power") == pytest.approx(0.2988, abs=5e-5)
    assert value(found, "sensitivity", "unpaired", "smallest") == pytest.approx(0.21, abs=0.005)
    assert value(found, "sensitivity", "one group", "half-width") == pytest.approx(0.08615, abs=5e-6)
    found = ask("--sensitivity", 0.85, "--drop", 0.10, "--positives", 66, "--alpha", 0.005)
    assert value(found, "sensitivity", "unpaired", "power") == pytest.approx(0.0835, abs=5e-5)


def test_auroc_of_the_cases_in_hand(ask):
    found = ask("--auroc", 0.85, "--positives", 66, "--negatives", 660)
    assert value(found, "AUROC", "paired", "smallest") == pytest.approx(0.054, abs=5e-4)
    assert value(found, "AUROC", "unpaired", "smallest") == pytest.approx(0.120, abs=5e-4)
    assert found == ask("--auroc", 0.85, "--positives", 66) | {"assumptions": found["assumptions"]}


def test_positives_for_a_half_width(ask):
    sizes = [value(ask("--auroc", 0.85, "--half-width", h), "AUROC", "one group", "±") for h in (0.05, 0.03, 0.02)]
    assert sizes == [93, 258, 579]


def test_several_images_of_a_patient_take_more(ask):
    found = ask("--sensitivity", 0.85, "--drop", 0.10, "--unpaired", "--icc", 0.3, "--cluster-size", 4)
    assert value(found, "sensitivity", "unpaired", "find") == 475  # 249.98 × 1.9
    found = ask("--auroc", 0.85, "--positives", 264, "--icc", 1, "--cluster-size", 4)
    assert value(found, "AUROC", "paired", "smallest") == pytest.approx(0.054, abs=5e-4)


def test_published_waterfall(ask, call):
    fractions = (377110, ".65", ".03", ".47", ".16", ".30", ".40")
    found = ask("--waterfall", *fractions, "--drop", 0.10, "--sensitivity", 0.85)
    assert found["waterfall"] == pytest.approx([377110, 245121.5, 7353.6, 3456.2, 553.0, 165.9, 66.36], abs=0.05)
    assert value(found, "sensitivity", "unpaired", "power") == pytest.approx(0.30, abs=0.005)
    shown = call("--waterfall", *fractions).stdout
    assert "245,121.5" in shown
    assert "What 66.36 positives can show" in shown


def test_a_plan_is_filtered_and_grouped(ask):
    """36 films of 30 patients, every other one positive, scanners A A B B in turn."""
    found = ask("plan.toml", "--where", "scanner = A | B", "--where", "label = 1", "--by", "scanner")
    assert [step["cases"] for step in found["waterfall"]] == [36, 36, 18]
    assert [step["positives"] for step in found["waterfall"]] == [[18], [18], [18]]
    assert [step["patients"] for step in found["waterfall"]] == [30, 30, 15]
    rows = {row["subgroup"]: row for row in found["certifiable"]}
    assert {name: row["positives"] for name, row in rows.items()} == {"": 18, "scanner A": 9, "scanner B": 9}
    assert rows[""]["auroc_drop"] is None  # no negative is left
    # The profile's largest shift check: two levels, three metrics, one finding.
    assert rows[""]["comparisons"] == 6
    assert rows["scanner A"]["sensitivity_drop"] > rows[""]["sensitivity_drop"]


def test_claims_and_flags_say_what_is_supposed(ask, edit):
    edit("[run]", "[claims]\nbright = { auroc = 0.93 }\n[run]")
    row = ask("plan.toml")["certifiable"][0]
    assert (row["auroc"], row["sensitivity"], row["auroc_tolerance"]) == (0.93, 0.85, 0.05)
    row = ask("plan.toml", "--auroc", 0.8, "--drop", 0.2, "--comparisons", 3)["certifiable"][0]
    assert (row["auroc"], row["auroc_tolerance"], row["comparisons"]) == (0.8, 0.2, 3)


def test_tables_for_a_person(call):
    done = call("plan.toml", "--where", "scanner = A", "--by", "scanner, mask")
    assert done.exit_code == 0, done.output
    for words in ("scanner = A", "bright +", "Smallest detectable drop of AUROC", "scanner A, mask"):
        assert words in done.stdout
    assert "6 comparisons judged together" in " ".join(done.stdout.split())


def test_every_assumption_stands_under_the_answers(call, ask):
    """With --quiet too: a number without what it rests on says nothing."""
    numbers = ("--sensitivity", 0.9, "--auroc", 0.8, "--drop", 0.10, "--positives", 66)
    shown = " ".join(call(*numbers, "--quiet").stdout.split())
    for words in (
        "80% power at a two-sided level of 0.05",
        "clean AUROC 0.8",
        "correlated 0.8",
        "10 negatives per positive",
        "clean sensitivity 0.9",
        "discordance of 14% (12% lost, 2% gained)",
        "one image per patient",
    ):
        assert words in shown
    found = ask(*numbers)
    assert all(words in shown for words in found["assumed"])
    assert found["assumptions"]["gained"] == 0.02
    assert found["assumptions"]["discordance"] == pytest.approx(0.14)
    changed = (*numbers, "--discordance", 0.3, "--correlation", 0.5, "--negatives", 33, "--cluster-size", 3)
    shown = " ".join(call(*changed, "--comparisons", 4).stdout.split())
    for words in ("discordance of 30% (20% lost, 10% gained)", "correlated 0.5", "0.5 negatives per positive"):
        assert words in shown
    assert "3 images per patient, correlated 0.3 (ICC): 1.60 times the cases" in shown
    assert "4 comparisons share that level" in shown


def test_the_assumptions_of_a_plan_stand_under_its_tables(call, ask):
    flags = ("plan.toml", "--discordance", 0.2, "--drop", 0.1, "--correlation", 0.6, "--icc", 0.5, "--power", 0.9)
    shown = " ".join(call(*flags, "--quiet").stdout.split())
    for words in ("90% power", "discordance of 20% (15% lost, 5% gained)", "correlated 0.6", "correlated 0.5 (ICC)"):
        assert words in shown
    found = ask(*flags)
    assert all(words in shown for words in found["assumed"])
    row = found["certifiable"][0]
    assert [row[name] for name in ("correlation", "icc", "alpha", "power")] == [0.6, 0.5, 0.05, 0.9]
    assert row["gained"] == pytest.approx(0.05)


def test_help_says_what_stands_for_a_number_that_is_not_given(call):
    shown = " ".join(word for word in call("--help").stdout.split() if word != "│")
    assert "default: claim, else 0.85" in shown
    assert "default: drop + 0.04" in shown


def test_a_bare_manifest(ask):
    found = ask("cases.csv", "--finding", "label", "--patient", "patient", "--by", "scanner")
    assert found["waterfall"][0]["patients"] == 30
    assert [row["positives"] for row in found["certifiable"]] == [18, 9, 9]


def test_nothing_left_is_exit_3(call):
    done = call("plan.toml", "--where", "scanner = C", "--by", "scanner")
    assert done.exit_code == 3
    assert "no case is left after scanner = C; scanner has 'A', 'B'" in done.stderr
    done = call("plan.toml", "--where", "scanner = C", "--json")
    assert json.loads(done.stdout)["certifiable"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to answer"),
        (["--sensitivity", 0.85], "nothing to answer"),
        (["--sensitivity", 1.2, "--drop", 0.1], "between 0 and 1"),
        (["--sensitivity", 0.85, "--drop", 0.9], "drop: expected a number between 0 and the sensitivity 0.85"),
        (["--sensitivity", 0.85, "--drop", 0.1, "--discordance", 0.05], "discordance: expected at least the drop"),
        (["--sensitivity", 0.85, "--positives", 9, "--discordance", 0.2], "expected the drop it goes with, got 0.2"),
        (["plan.toml", "--discordance", 0.2], "expected the drop it goes with, got 0.2"),
        (["--auroc", 0.85, "--positives", 0], "positives: expected a number above 0"),
        (["--auroc", 0.85, "--positives", 9, "--power", 1], "alpha and power between 0 and 1"),
        (["--auroc", 0.85, "--half-width", 0], "half-width: expected a number above 0"),
        (["--waterfall", 100, "half"], "expected fractions such as .65, got 'half'"),
        (["--waterfall", 100, 1.5], "at most 1, got 1.5"),
        (["plan.toml", "other.toml"], "expected one plan or manifest"),
        (["nowhere.toml"], "cannot be read"),
        (["plan.toml", "--where", "scanner"], "expected 'column operator value'"),
        (["plan.toml", "--where", "scaner = A"], "Did you mean 'scanner'?"),
        (["plan.toml", "--by", "scaner"], "Did you mean 'scanner'?"),
        (["cases.csv"], "Add --finding COLUMN"),
        (["cases.csv", "--finding", "scanner"], "expected labels 1, 0"),
    ],
)
def test_bad_input_is_a_message_with_exit_code_2(call, arguments, words):
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_a_terminal_without_letters_is_enough(tmp_path):
    line = [sys.executable, "-m", "robustbench_rad.cli", "power", "--auroc", "0.85", "--half-width", "0.05"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "+/-0.05" in done.stdout


def test_questions_without_meaning_are_refused():
    for wrong in ({"icc": 2.0}, {"cluster_size": 0.5}, {"ratio": 0.0}, {"comparisons": 0}, {"alpha": 0.0}):
        with pytest.raises(StatisticsError):
            answers(Question(sensitivity=0.85, drop=0.1, **wrong))
