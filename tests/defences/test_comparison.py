"""An audit of a defended model says what the defences gain, from the same cases, attacks and levels without them."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from robustbench_rad.audit import prepare, run_audit
from robustbench_rad.cli import app
from robustbench_rad.defences.comparison import COLUMNS, UNDEFENDED, beside
from robustbench_rad.errors import RunFolderError
from robustbench_rad.judging import FinishedRun
from robustbench_rad.plan import read_plan
from robustbench_rad.reports.html import render_html
from robustbench_rad.reports.markdown import render_markdown
from robustbench_rad.result import DEFENCES, AuditResult, Domain
from robustbench_rad.runs import SALT_FILE

COARSE = '[[model.defences]]\nkind = "quantisation"\nbits = 2\n\n[data]'


@pytest.fixture
def audited(workshop, edit):
    """Run the workshop's plan behind the given defences."""

    def run(defences=COARSE, name="run"):
        if defences not in (workshop / "plan.toml").read_text():
            edit("[data]", defences)
        return run_audit(read_plan(workshop / "plan.toml"), folder=workshop / name)

    return run


def rows(result):
    tables = [table for table in result.tables if table.check == DEFENCES]
    return [dict(zip(COLUMNS, row, strict=True)) for table in tables for row in table.rows]


def test_every_metric_is_shown_with_and_without_at_every_level(audited):
    result = audited().result
    assert {table.domain for table in result.tables if table.check == DEFENCES} == {
        Domain.CLEAN,
        Domain.ADVERSARIAL,
        Domain.ACQUISITION_SHIFT,
    }
    shown = {(row["check"], row["level"].split(" ")[0]) for row in rows(result)}
    assert {("clean.performance", "clean"), ("attack.fgsm", "1/255"), ("attack.pgd-linf", "2/255")} <= shown
    assert "The model is audited behind its defences: quantisation to 2 bits." in result.notices
    item = next(item for item in result.preflight if item.name == "defences")
    assert item.status == "ok"
    assert "one image costs 1 pass" in item.detail


def test_a_gain_is_with_minus_without_and_lies_in_its_interval(audited):
    counted = 0
    for row in rows(audited().result):
        if row["gain"] is None:
            continue
        counted += 1
        without, with_ = (float(row[key].split(" ")[0]) for key in ("without", "with"))
        assert row["gain"] == pytest.approx(with_ - without, abs=0.0011)
        assert row["lower"] <= row["gain"] <= row["upper"]
        assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", row["without"])
    assert counted > 10


def test_the_run_without_defences_is_the_audit_of_the_plan_without_them(audited, workshop, edit):
    folder = audited().folder
    edit(COARSE, "[data]")
    bare = run_audit(read_plan(workshop / "plan.toml"), folder=workshop / "bare")
    inside, apart = FinishedRun.read(folder / UNDEFENDED), FinishedRun.read(bare.folder)
    assert (
        inside.record.provenance.measurement_sha256
        == bare.result.provenance.measurement_sha256
        != FinishedRun.read(folder).record.provenance.measurement_sha256
    )
    assert inside.scores.columns.keys() == apart.scores.columns.keys()
    for column, margins in inside.scores.columns.items():
        np.testing.assert_array_equal(margins, apart.scores.columns[column])
    assert not any(table.check == DEFENCES for table in bare.result.tables)


def test_a_model_of_the_mean_gains_nothing_from_rounding_that_does_not_matter(audited):
    """16 bits of a plane that holds fewer: the two models agree to 1e-5, so nothing is gained and nothing lost."""
    for row in rows(audited(COARSE.replace("bits = 2", "bits = 16")).result):
        if row["gain"] is not None:
            assert row["gain"] == pytest.approx(0.0, abs=1e-9)


def test_a_stopped_run_goes_on_with_both_and_gives_the_same(audited, workshop):
    whole = rows(audited().result)
    chunks = sorted((workshop / "run" / UNDEFENDED / "chunks").glob("*.npz"))
    chunks[1].unlink()
    sorted((workshop / "run" / "chunks").glob("*.npz"))[2].unlink()
    assert rows(audited().result) == whole


def test_the_comparison_is_there_when_a_finished_run_is_judged_again(audited):
    audit = audited()
    again = beside(FinishedRun.read(audit.folder).judge(), audit.folder)
    assert rows(again) == rows(audit.result)
    assert again.notices[0].startswith("The model is audited behind its defences")


def test_the_comparison_can_be_declined(audited, workshop, edit):
    edit("[model.input]", "compare_undefended = false\n[model.input]")
    audit = audited()
    assert not rows(audit.result)
    assert not (workshop / "run" / UNDEFENDED).exists()
    assert audit.result.notices[0].startswith("The model is audited behind its defences")


def test_the_gate_shows_it_for_a_finished_run(audited):
    audit = audited()
    said = CliRunner().invoke(app, ["gate", "--result", str(audit.folder), "--json"])
    shown = AuditResult.model_validate(json.loads(said.stdout)["result"])
    assert rows(shown) == rows(audit.result)


def test_the_preflight_warns_of_noise_that_is_drawn_anew_when_deployed(audited):
    result = audited('[[model.defences]]\nkind = "noise"\nsd = 0.02\ndraws = 2\n\n[data]').result
    items = {item.name: item for item in result.preflight}
    assert "one image costs 2 passes" in items["defences"].detail
    assert items["noise of a defence"].status == "warning"
    assert items["determinism"].status == "ok"
    assert items["independence"].status == "ok"


def test_the_price_counts_every_view_and_the_run_without(workshop, edit):
    plan = read_plan(workshop / "plan.toml")
    plain = prepare(plan).passes_per_case
    edit("[data]", '[[model.defences]]\nkind = "noise"\nsd = 0.01\ndraws = 3\n\n[data]')
    assert prepare(read_plan(workshop / "plan.toml")).passes_per_case == pytest.approx(plain * (3 + 1))


def test_the_salt_of_the_case_names_lies_outside_both_runs(audited, workshop):
    audited()
    assert (workshop / SALT_FILE).is_file()
    assert not list((workshop / "run").rglob(SALT_FILE))


def test_the_reports_hold_the_comparison(audited):
    result = audited().result
    for page in (render_html(result), render_markdown(result)):
        assert "With and without the defences" in page
        assert "quantisation to 2 bits" in page
        assert "Gradients pass straight through quantisation" in page


def test_another_defence_is_another_run(audited, edit):
    audited()
    edit("bits = 2", "bits = 3")
    with pytest.raises(RunFolderError, match="another plan"):
        audited(COARSE.replace("bits = 2", "bits = 3"))
