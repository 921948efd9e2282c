"""A locked profile is refused when it was changed, and a built-in one changes its numbers only with its version."""

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robustbench_rad.checks import all_checks, defaults
from robustbench_rad.cli import app
from robustbench_rad.errors import PlanError
from robustbench_rad.plan import digest
from robustbench_rad.profile import BUILT_IN, check_spec, lock_profile, parse_profile, read_profile
from robustbench_rad.registry import catalogue

GOLDEN = Path(__file__).parent / "golden" / "profiles.json"
PROFILE = """# Ours
name = "ours"
version = 3

[domains.clean]
[checks."clean.performance"]
critical = true
[checks."shift.xr.dose"]
levels = [0.5]
tolerance = { auroc = 0.04 }
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "ours.toml").write_text(PROFILE)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["profile", *arguments])


def test_locking_changes_one_line_only():
    locked, sha256 = lock_profile(PROFILE, "ours")
    assert locked.replace(f'sha256 = "{sha256}"\n', "") == PROFILE
    assert parse_profile(locked, "ours").content_sha256 == sha256


def test_locking_twice_is_locking_once():
    once, _ = lock_profile(PROFILE, "ours")
    assert lock_profile(once, "ours")[0] == once


@pytest.mark.parametrize(
    ("old", "new"),
    [("auroc = 0.04", "auroc = 0.05"), ("[0.5]", "[0.5, 0.25]"), ("critical = true", "critical = false"),
     ("version = 3", "version = 4"), ("[domains.clean]", "[domains.clean]\nweight = 2.0")],
)  # fmt: skip
def test_a_changed_profile_is_refused_until_it_is_locked_again(old, new):
    locked, _ = lock_profile(PROFILE, "ours")
    changed = locked.replace(old, new)
    assert changed != locked
    with pytest.raises(PlanError, match=r"changed after it was locked.*\n.*profile lock ours"):
        parse_profile(changed, "ours")
    again, _ = lock_profile(changed, "ours")
    assert parse_profile(again, "ours").content_sha256 != parse_profile(locked, "ours").content_sha256


def test_comments_and_layout_are_free():
    locked, _ = lock_profile(PROFILE, "ours")
    relaid = "\n\n" + locked.replace("# Ours", "# Ours, of the chest group").replace(
        "levels = [0.5]", "levels = [ 0.5 ]"
    )
    assert parse_profile(relaid, "ours").name == "ours"


def test_a_hash_inside_a_table_is_no_lock():
    with pytest.raises(PlanError, match=r"domains\.clean\.sha256: unknown key"):
        parse_profile(PROFILE.replace("[domains.clean]", '[domains.clean]\nsha256 = "x"'), "ours")


class TestCommand:
    def test_lock_writes_the_hash(self, run, tmp_path):
        done = run("lock", "ours.toml")
        assert done.exit_code == 0, done.output
        assert re.search(r"locked ours\.toml: [0-9a-f]{64}", done.stdout)
        assert read_profile("ours.toml", base=tmp_path).sha256

    def test_a_changed_one_is_refused_with_exit_code_2(self, run, tmp_path):
        run("lock", "ours.toml")
        text = (tmp_path / "ours.toml").read_text()
        (tmp_path / "ours.toml").write_text(text.replace("0.04", "0.4"))
        done = run("show", "ours.toml")
        assert done.exit_code == 2
        assert "changed after it was locked" in done.stderr

    @pytest.mark.parametrize("name", ["quick", "nowhere.toml", "."])
    def test_what_is_no_file_cannot_be_locked(self, run, name):
        done = run("lock", name)
        assert done.exit_code == 2
        assert "cannot be locked" in done.stderr

    def test_a_broken_file_is_left_as_it_is(self, run, tmp_path):
        (tmp_path / "ours.toml").write_text("name = ")
        assert run("lock", "ours.toml").exit_code == 2
        assert (tmp_path / "ours.toml").read_text() == "name = "

    @pytest.mark.parametrize("name", [*BUILT_IN, "ours.toml"])
    def test_show_fills_defaults_in(self, run, name):
        shown = json.loads(run("show", name, "--json").stdout)
        (dose,) = [check for check in shown["checks"] if check["id"] == "shift.xr.dose"]
        assert dose["critical_harm"]["auroc"] == 0.15
        done = run("show", name)
        assert shown["sha256"] in done.stdout
        assert "clean.performance" in done.stdout


def numbers(name: str) -> dict[str, object]:
    """Version of a built-in profile, and the hash of all its numbers, those it leaves to the defaults of checks included."""
    file = read_profile(name)
    specs = [check_spec(id, table) for id, table in file.checks.items()]
    judged = {spec.id: [spec.tolerance, spec.critical_harm, spec.critical, spec.informational] for spec in specs}
    return {"version": file.version, "sha256": file.content_sha256, "judged": digest(judged)}


def test_built_in_profiles_change_with_their_version_only():
    """A number that changes without a new version would make two results look comparable that are not."""
    found = {name: numbers(name) for name in BUILT_IN}
    known = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if os.environ.get("REGENERATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        return
    changed = [name for name in BUILT_IN if found[name] != known.get(name)]
    stale = [name for name in changed if found[name]["version"] == known.get(name, {}).get("version")]
    assert not stale, (
        f"{stale}: raise the version in the file, then make the golden file again with REGENERATE_GOLDEN=1"
    )
    assert not changed, f"{changed}: make the golden file again with REGENERATE_GOLDEN=1"


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_check_of_a_built_in_profile_is_known_and_explained(name):
    file = read_profile(name)
    assert set(file.checks) <= set(all_checks())
    text = (Path(__file__).parents[1] / "robustbench_rad" / "profiles" / f"{name}.toml").read_text()
    tables = {id: text.index(f'[checks."{id}"]') for id in file.checks}
    for id, place in tables.items():
        if not defaults(id).informational and (file.checks[id] or id not in catalogue()):
            above = text[:place].rstrip("\n").rpartition("\n")[2]
            assert above.startswith("#"), f"{name}: {id} has no comment that says why"
