"""A long run never looks dead: a heartbeat and a line per chunk in a log, a live display on a terminal."""

import io
import time

import pytest
from rich.console import Console

from robustbench_rad.cli_progress import LiveProgress, PlainProgress, make_progress
from robustbench_rad.progress import Progress


@pytest.fixture
def log():
    return Console(file=io.StringIO(), width=120)


def drive(progress):
    progress.stage("audit", 20)
    progress.condition("attack.fgsm")
    progress.advance(10)
    progress.chunk(1, 2)


def test_a_log_gets_one_line_per_stage_and_chunk(log):
    progress = PlainProgress(log)
    drive(progress)
    progress.close()
    first, second = log.file.getvalue().splitlines()
    assert first == "audit: 20 cases"
    assert second.startswith("audit: chunk 1/2, 10/20 cases, ")
    assert "left" in second


def test_a_log_gets_a_heartbeat_that_says_where_the_run_is(log):
    progress = PlainProgress(log, heartbeat_s=0.02)
    drive(progress)
    end = time.monotonic() + 5
    while "still running" not in log.file.getvalue() and time.monotonic() < end:
        time.sleep(0.01)
    progress.close()
    assert "still running: audit, attack.fgsm, 10/20" in log.file.getvalue()
    ended = log.file.getvalue()
    time.sleep(0.1)
    assert log.file.getvalue() == ended  # nothing beats after the end


def test_a_terminal_gets_condition_chunk_and_rate():
    console = Console(file=io.StringIO(), width=160, force_terminal=True, force_interactive=True)
    progress = make_progress(console, quiet=False)
    assert isinstance(progress, LiveProgress)
    drive(progress)
    progress.condition("shift.xr.dose")
    progress.advance(1)
    progress._display.refresh()
    progress.close()
    shown = console.file.getvalue()
    for part in ("audit · shift.xr.dose", "chunk 1/2", "cases/s", "11/20"):
        assert part in shown


def test_quiet_says_nothing(log):
    assert type(make_progress(log, quiet=True)) is Progress
