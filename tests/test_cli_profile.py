"""The profile command: what a profile runs and how it judges, readable in eighty columns."""

import json

import pytest
from typer.testing import CliRunner

from robustbench_rad.cli import app
from robustbench_rad.profile import BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_check_stands_whole_beside_its_limits_in_eighty_columns(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = json.loads(CliRunner().invoke(app, ["profile", "show", name, "--json"]).stdout)["checks"]
    lines = CliRunner().invoke(app, ["profile", "show", name]).stdout.splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("check "))
    assert all(len(line) <= 80 for line in lines[head:])
    for row in rows:
        place = next(n for n, line in enumerate(lines) if line.split()[:1] == [row["id"]])
        assert ("(critical)" in lines[place]) is row["critical"]
        assert ("shown" in lines[place]) is row["informational"]
        for offset, (key, tolerance) in enumerate((row["tolerance"] or {}).items()):
            limits = [f"{tolerance:g}", f"{row['critical_harm'][key]:g}"]
            assert lines[place + offset].split()[-2 - bool(key) :] == [*([key] if key else []), *limits]


def test_options_stand_below_the_name_of_their_check(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, ["profile", "show", "quick"]).stdout.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("attack.pgd-linf "))
    assert lines[place + 1].startswith("  epsilon ['1/255']; steps 10; random_starts 0 ")
