"""The read-out as tables: what is asked of a console of eighty columns is that every audit and every interval stays whole."""

from io import StringIO

import pytest
from rich.console import Console

from robustbench_rad.planted.programme import COMBINED, CONTROLS, KINDS, Trial, audits
from robustbench_rad.planted.tables import audits_table, kinds_table, trained_table
from robustbench_rad.planted.trained import TrainedTrial

CHECKS = audits("full")
STRENGTHS = (0.1, 0.3, 1.0)


def trial(kind, *, control=False, strength=0.0):
    verdict = "fail" if strength == 1.0 else "inconclusive"
    verdicts = {name: verdict for name in (COMBINED, *(check.id for check in CHECKS))}
    return Trial(
        kind=kind, control=control, strength=strength, association=0.7, cases=60, replicate=0, verdicts=verdicts
    )


@pytest.fixture(name="trials")
def _trials():
    return [
        *(trial(kind, strength=strength) for kind in KINDS for strength in STRENGTHS),
        *(trial(control.name, control=True) for control in CONTROLS),
    ]


def lines(table, width):
    console = Console(width=width, file=StringIO())
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_intervals_stand_below_their_shares_where_the_console_is_narrow(trials):
    shown = lines(audits_table(CHECKS, trials, stacked=True), 80)
    assert len(shown) == 3 + 2 * (1 + len(CHECKS))  # title, head of two lines, two lines for each audit
    for check in CHECKS:
        at = next(n for n, line in enumerate(shown) if line.startswith(f" {check.id.removeprefix('shortcut.')} "))
        assert shown[at].split()[1:9] == ["0", "%", "0", "%", "100", "%", "0", "%"]
        assert shown[at + 1].count("[") == shown[at + 1].count("]") == 4


def test_with_room_each_audit_is_one_line(trials):
    shown = lines(audits_table(CHECKS, trials), 120)
    assert len(shown) == 2 + 1 + len(CHECKS)
    assert all(line.count("[") == 4 for line in shown[2:])


def test_what_the_domain_says_keeps_strengths_and_rates_whole(trials):
    shown = lines(kinds_table(trials), 80)
    assert sum(" 0.1 SD " in line for line in shown) == len(KINDS)
    assert sum("[" in line and "]" in line for line in shown) == len(KINDS) * len(STRENGTHS) + len(CONTROLS)


def test_trained_networks_fit_eighty_columns():
    networks = [
        TrainedTrial(trial=trial(kind, strength=1.0), audited_auroc=0.91, decorrelated_auroc=0.56)
        for kind in ("corner marker at 90 : 10", "burned-in text at 90 : 10")
    ]
    shown = lines(trained_table(networks), 80)
    assert sum("0.91" in line and "0.56" in line and "fail" in line for line in shown) == 2
