"""The same answer whatever the machinery, nothing lost, and no silent pass."""

import re

import numpy as np
import pytest
import torch

from robustbench_rad.audit import prepare, run_audit
from robustbench_rad.classifier import untouched
from robustbench_rad.errors import DataError, ModelError, PlanError, RunFolderError
from robustbench_rad.evaluation import Evaluator
from robustbench_rad.plan import read_plan
from robustbench_rad.result import Verdict
from robustbench_rad.runs import RunFolder
from robustbench_rad.sampling import patient_key
from robustbench_rad.scores import Chunk
from robustbench_rad.shortcuts.masked_anatomy import MaskedAnatomy

UNSTABLE = {"provenance", "preflight"}


def run(workshop, name="run", **machinery):
    plan = read_plan(workshop / "plan.toml")
    plan = plan.model_copy(update={"run": plan.run.model_copy(update=machinery)})
    return run_audit(plan, folder=workshop / name).result


def stable(result) -> dict:
    """Everything but times and the machinery's own settings."""
    content = result.model_dump(mode="json", exclude=UNSTABLE)
    content["plan"].pop("run")
    return content


def scores(workshop, name) -> dict:
    """Margins by hashed case id and column, whatever the chunks."""
    table = {}
    for path in sorted((workshop / name / "chunks").glob("*.npz")):
        chunk = Chunk.read(path)
        for row, case in enumerate(chunk.cases):
            for column, value in zip(chunk.columns, chunk.margins[row], strict=True):
                table[case, column] = value
    return table


def same(a: dict, b: dict, tolerance: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    np.testing.assert_allclose(list(a.values()), [b[key] for key in a], rtol=tolerance, atol=tolerance)


def test_every_domain_of_the_profile_is_judged(workshop):
    result = run(workshop)
    checks = {criterion.check for criterion in result.criteria}
    assert checks == {
        "clean.performance",
        "attack.fgsm",
        "attack.pgd-linf",
        "shift.xr.dose",
        "shortcut.masked-anatomy",
        "shortcut.scanner-dependence",
    }
    assert all(criterion.harm.upper is not None or criterion.reason for criterion in result.criteria)
    assert result.data.cases == 36
    assert result.data.patients == 30


def test_brightness_is_flipped_just_when_epsilon_reaches_the_margin(workshop):
    """For the mean-intensity model a uniform change of ε moves the margin by 20 ε: the flips are known exactly."""
    run(workshop)
    table, flipped = scores(workshop, "run"), 0
    for (case, column), value in table.items():
        if column.condition == "attack.fgsm":
            clean = table[case, type(column)(condition="clean", level="", finding="bright")]
            epsilon = {"1/255": 1 / 255, "4/255": 4 / 255}[column.level]
            # rounding of the resized plane to 8 bits moves the mean by less than half a grey level
            if abs(clean) > 20 * (epsilon + 0.5 / 255):
                assert np.sign(value) == np.sign(clean)
            elif abs(clean) < 20 * (epsilon - 0.5 / 255):
                assert np.sign(value) != np.sign(clean)
                flipped += 1
    assert flipped


@pytest.mark.parametrize(
    "machinery",
    [{"batch_size": 1}, {"batch_size": 36}, {"chunk_size": 5}, {"chunk_size": 100}, {"workers": 2}],
    ids=lambda m: "-".join(f"{k}={v}" for k, v in m.items()),
)
def test_scores_do_not_depend_on_the_machinery(workshop, machinery):
    run(workshop, "reference")
    run(workshop, "other", **machinery)
    same(scores(workshop, "reference"), scores(workshop, "other"))


def test_scores_do_not_depend_on_the_order_of_cases(workshop):
    run(workshop, "reference")
    header, *rows = (workshop / "cases.csv").read_text().splitlines()
    (workshop / "cases.csv").write_text("\n".join([header, *reversed(rows)]) + "\n")
    run(workshop, "other")
    same(scores(workshop, "reference"), scores(workshop, "other"))


def test_equal_batches_give_bit_equal_scores(workshop):
    run(workshop, "first")
    run(workshop, "second")
    same(scores(workshop, "first"), scores(workshop, "second"), tolerance=0)


def test_another_seed_gives_another_noise(workshop, edit):
    run(workshop, "reference")
    edit("seed = 7", "seed = 8")
    run(workshop, "other")
    a, b = scores(workshop, "reference"), scores(workshop, "other")
    dose = [key for key in a if key[1].condition == "shift.xr.dose"]
    assert all(a[key] != b[key] for key in dose)


def test_a_stopped_run_continues_and_gives_the_same_report(workshop, monkeypatch):
    whole = run(workshop, "reference")
    evaluate = Evaluator.chunk
    calls = []

    def stop_at_third(self, cases):
        calls.append(len(cases))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(self, cases)

    monkeypatch.setattr(Evaluator, "chunk", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(workshop)
    assert len(list((workshop / "run" / "chunks").glob("*.npz"))) == 2
    continued = run(workshop)
    assert len(calls) == 3 + 3  # five chunks in all, two of them were done
    assert stable(continued) == stable(whole)


def test_a_finished_run_is_not_measured_again(workshop, monkeypatch):
    first = run(workshop)
    monkeypatch.setattr(Evaluator, "chunk", lambda *_: pytest.fail("measured again"))
    assert stable(run(workshop)) == stable(first)


def test_a_run_folder_of_another_plan_model_or_data_is_refused(workshop, edit):
    run(workshop)
    edit("levels = [0.5, 0.1]", "levels = [0.5, 0.2]", "profile.toml")
    with pytest.raises(RunFolderError, match="another plan"):
        run(workshop)
    edit("levels = [0.5, 0.2]", "levels = [0.5, 0.1]", "profile.toml")
    edit("images/0.png,p0,0", "images/0.png,p0,1", "cases.csv")
    with pytest.raises(RunFolderError, match="another data"):
        run(workshop)


def test_changed_model_code_with_the_same_weights_is_another_model(workshop, edit):
    run(workshop)
    edit(
        "20 * (x.mean((1, 2, 3)) - 0.5)[:, None]\n    return Brightness",
        "-20 * (x.mean((1, 2, 3)) - 0.5)[:, None]\n    return Brightness",
        "model.py",
    )
    with pytest.raises(RunFolderError, match="another model"):
        run(workshop)


def test_a_preflight_error_allows_no_score_and_no_pass(workshop, edit):
    edit("model.py:brightness", "model.py:random")
    result = run(workshop)
    assert any(item.status == "error" for item in result.preflight)
    assert result.score.total is None
    assert result.verdict is not Verdict.PASS


def test_a_check_of_another_modality_is_refused_when_the_plan_asks_for_it(workshop):
    with (workshop / "plan.toml").open("a") as file:
        file.write('\n[checks]\n"shift.ct.dose" = { levels = [0.5] }\n')
    with pytest.raises(PlanError, match=r"shift\.ct\.dose.*is for CT, the data are DX"):
        run(workshop)


def test_a_condition_that_errs_is_inconclusive_and_the_others_go_on(workshop, monkeypatch):
    from robustbench_rad.shifts.xr_dose import XrDose

    def broken(*_arguments):
        raise DataError("the detector fell off")

    monkeypatch.setattr(XrDose, "apply", broken)
    result = run(workshop)
    shifted = [c for c in result.criteria if c.check == "shift.xr.dose"]
    assert all(c.verdict is Verdict.INCONCLUSIVE and "the detector fell off" in c.reason for c in shifted)
    assert any(c.verdict is Verdict.PASS for c in result.criteria)


@pytest.mark.parametrize("limits", ["[-1.0, 1.0]", "[0.0, 255.0]", "[-1024.0, 1024.0]"])
def test_any_declared_range_gives_the_same_scores(workshop, edit, limits):
    """The range says what black and white are in the model's terms; the films and the physics are the same."""
    run(workshop, "reference")
    edit("range = [0.0, 1.0]", f"range = {limits}")
    run(workshop, "other")
    # a pixel whose grey level lies on the edge between two may be stored as either: 20 / 256 pixels / 255 levels
    same(scores(workshop, "reference"), scores(workshop, "other"), tolerance=20 / 256 / 255 * 3)


def test_another_policy_is_the_same_run(workshop, edit):
    """Tolerances judge; they do not measure. The run is found again and judged anew."""
    first = run(workshop)
    edit('[checks."shift.xr.dose"]', '[checks."shift.xr.dose"]\ntolerance = 0.9\ncritical_harm = 0.95', "profile.toml")
    second = run(workshop)
    assert first.provenance.measurement_sha256 == second.provenance.measurement_sha256
    assert first.provenance.policy_sha256 != second.provenance.policy_sha256


def test_the_default_run_folder_is_the_same_for_the_same_audit(workshop, monkeypatch):
    monkeypatch.setenv("ROBUSTBENCH_RAD_RUNS", str(workshop / "runs"))
    plan = read_plan(workshop / "plan.toml")
    assert run_audit(plan).folder == run_audit(plan).folder


def test_result_and_reports_hold_no_identifier(workshop):
    plan = read_plan(workshop / "plan.toml")
    done = run_audit(plan, folder=workshop / "run")
    from robustbench_rad.reports.writer import write_reports

    write_reports(done.result, done.folder, plan.report.formats)
    for path in (workshop / "run").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"images/1" not in content, path
            assert not re.search(rb"\bp1\d\b", content), path


def learned(workshop, monkeypatch, name) -> dict:
    """Everything that a run writes as a state, by condition."""
    kept = {}
    write = RunFolder.write_state
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_state", lambda *a: kept.update({a[1]: a[2]}) or write(*a))
        run(workshop, name)
    return kept


def test_what_is_kept_of_patients_depends_on_a_secret_and_no_score_does(workshop, monkeypatch):
    first = learned(workshop, monkeypatch, "one/run")["shortcut.masked-anatomy"]
    second = learned(workshop, monkeypatch, "two/run")["shortcut.masked-anatomy"]
    assert torch.equal(first["donors"], second["donors"])
    keys = [set(state["donor_patients"].tolist()) for state in (first, second)]
    assert not keys[0] & keys[1]
    assert not keys[0] & {patient_key(f"p{number}") for number in range(30)}  # a list of patients re-identifies nobody
    tables = []
    for name in ("one/run", "two/run"):
        with RunFolder.open(
            workshop / name, prepare(read_plan(workshop / "plan.toml")).identity, chunk_size=8
        ) as opened:
            clear = {opened.hashed(f"images/{number}.png"): number for number in range(36)}
        tables.append({(clear[case], column): value for (case, column), value in scores(workshop, name).items()})
    same(*tables, tolerance=0)


@pytest.mark.parametrize("images", [False, True])
def test_a_finished_run_holds_no_image(workshop, monkeypatch, images):
    plan = read_plan(workshop / "plan.toml")
    plan = plan.model_copy(update={"report": plan.report.model_copy(update={"images": images})})
    first = run_audit(plan, folder=workshop / "run").result
    assert not (workshop / "run" / "states").exists()
    monkeypatch.setattr(Evaluator, "chunk", lambda *_: pytest.fail("measured again"))
    if not images:
        monkeypatch.setattr(MaskedAnatomy, "fit", lambda *_: pytest.fail("fitted again"))
    again = run_audit(plan, folder=workshop / "run").result
    assert stable(again) == stable(first)
    assert bool(again.pictures) is images
    assert not (workshop / "run" / "states").exists()


def test_the_model_is_left_as_it_was(workshop, edit):
    edit("model.py:brightness", "model.py:build")
    prepared = prepare(read_plan(workshop / "plan.toml"))
    module = prepared.classifier.module
    module[1].train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    with untouched(module):
        module(torch.zeros(1, 1, 16, 16)).sum().backward()
    assert torch.equal(torch.get_rng_state(), state)
    assert module[1].training
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_nan_output_is_an_error_that_names_a_case(workshop, edit):
    edit("model.py:brightness", "model.py:nan")
    with pytest.raises(ModelError, match="NaN"):
        run(workshop)


def test_wrong_width_is_an_error(workshop, edit):
    edit("model.py:brightness", "model.py:wide")
    with pytest.raises(ModelError, match=r"expected .*1.* got .*3"):
        run(workshop)


def test_one_class_is_inconclusive_never_a_pass(workshop):
    lines = (workshop / "cases.csv").read_text().splitlines()
    header, rows = lines[0], [line.split(",") for line in lines[1:]]
    (workshop / "cases.csv").write_text(
        "\n".join([header, *[",".join([r[0], r[1], "1", *r[3:]]) for r in rows]]) + "\n"
    )
    result = run(workshop)
    assert result.verdict is not Verdict.PASS
    assert result.score.total is None
    auroc = [c for c in result.criteria if "AUROC" in c.quantity]
    assert auroc
    assert all(c.verdict is Verdict.INCONCLUSIVE for c in auroc)
    assert any(item.status == "warning" and "labels" in item.name for item in result.preflight)


def test_missing_masks_and_metadata_are_said_not_dropped(workshop, edit):
    edit('anatomy = { column = "mask" }\n', "")
    edit('metadata = { scanner = "nuisance" }\n', "")
    result = run(workshop)
    reasons = {c.check: c.reason for c in result.criteria}
    assert "anatomy" in reasons["shortcut.masked-anatomy"]
    assert "nuisance" in reasons["shortcut.scanner-dependence"]
    assert result.verdict is not Verdict.PASS


def test_a_check_left_out_by_the_plan_counts_as_missing(workshop):
    with (workshop / "plan.toml").open("a") as file:
        file.write('\n[checks]\n"shortcut.masked-anatomy" = false\n')
    result = run(workshop)
    (criterion,) = [c for c in result.criteria if c.check == "shortcut.masked-anatomy"]
    assert criterion.verdict is Verdict.INCONCLUSIVE
    assert result.score.evidence_coverage < 1


def test_a_training_manifest_is_looked_at_before_the_run_whether_or_not_a_check_reads_it(workshop, edit):
    edit("[data]", '[data]\ntraining_manifest = "train.csv"')
    with pytest.raises(DataError, match=r"data\.training_manifest: train\.csv: no such file"):
        prepare(read_plan(workshop / "plan.toml"))
    (workshop / "train.csv").write_text("subject\np1\n")
    with pytest.raises(DataError, match=r"column 'patient' \(patient of data\.training_manifest\) is missing"):
        prepare(read_plan(workshop / "plan.toml"))


def test_unreadable_files_are_all_listed_before_the_run(workshop):
    for name in ("3.png", "5.png"):
        path = workshop / "images" / name
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        run(workshop)
    assert "3.png" in str(caught.value)
    assert "5.png" in str(caught.value)
    assert not (workshop / "run" / "chunks").exists()


def test_unreadable_files_can_be_skipped_and_are_counted(workshop, edit):
    edit('patient = "patient"', 'patient = "patient"\non_unreadable = "skip"')
    (workshop / "images" / "3.png").write_bytes(b"not a film")
    result = run(workshop)
    assert result.data.cases == 35
    assert sum(result.data.excluded.values()) == 1


def test_an_absolute_path_is_shortened_in_the_result(workshop, edit):
    edit('manifest = "cases.csv"', f'manifest = "{workshop / "cases.csv"}"\nroot = "{workshop}"')
    result = run(workshop)
    assert result.plan["data"]["manifest"] == "cases.csv"
    assert str(workshop) not in result.to_json()
