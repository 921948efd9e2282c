"""Pictures: nothing that is burned into a case is seen in any of them, not even in the image of another case."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_rad import gallery
from robustbench_rad.audit import run_audit
from robustbench_rad.cases import CaseTable
from robustbench_rad.errors import DataError
from robustbench_rad.gallery_scores import Move
from robustbench_rad.plan import read_plan
from robustbench_rad.scores import ScoreTable

CHECK = "shortcut.masked-anatomy"
MIDDLE = (slice(None), slice(6, 14), slice(4, 16))  # inside the masks, where donors and mean image are laid


@pytest.fixture
def audit(workshop, monkeypatch):
    """Audit 12 cases, those at ``burned`` with an annotation of this brightness; returns the pictures."""
    header, *rows = (workshop / "cases.csv").read_text().splitlines()
    (workshop / "cases.csv").write_text("\n".join([header, *rows[:12]]) + "\n")
    load = CaseTable.load

    def pictures(burned, text=1.0, *, images=True):
        def annotated(table, index):
            case = load(table, index)
            if index not in burned:
                return case
            pixels = case.image.clone()
            pixels[MIDDLE] = text
            return replace(case, image=pixels, burned_in=True)

        monkeypatch.setattr(CaseTable, "load", annotated)
        plan = read_plan(workshop / "plan.toml")
        plan = plan.model_copy(update={"report": plan.report.model_copy(update={"images": images})})
        name = f"run-{len(list(workshop.glob('run-*')))}"
        found = {}
        for picture in run_audit(plan, folder=workshop / name).result.pictures:
            found.setdefault(picture.check, []).append(picture.model_dump_json())
        return found

    return pictures


@pytest.mark.parametrize("shown", [(3,), (3, 4, 8)], ids=["one", "three"])
def test_no_pixel_of_an_annotation_is_in_any_panel(audit, shown):
    """The pictures are the same, bit for bit, whatever is burned into the cases that are not shown."""
    burned = set(range(12)) - set(shown)
    white, black = audit(burned, 1.0), audit(burned, 0.0)
    assert CHECK in white
    assert white == black


def test_without_the_flag_the_same_pixels_would_be_seen(audit, monkeypatch):
    """The test above can fail: the mean image of unflagged cases shows what is written in them."""
    from robustbench_rad.evaluation import Evaluator

    batch = Evaluator._batch
    monkeypatch.setattr(Evaluator, "_batch", lambda *a, **k: replace(batch(*a, **k), burned_in=()))
    burned = set(range(12)) - {3}
    assert audit(burned, 1.0)[CHECK] != audit(burned, 0.0)[CHECK]


def test_when_every_case_is_burned_in_nothing_is_shown(audit):
    assert audit(set(range(12))) == {}


def test_what_was_learned_from_burned_in_cases_alone_is_not_shown(audit, monkeypatch):
    """Even if a case could be shown: the panels of this check would be made of annotated images."""
    first = gallery._Shelf.first
    found = []

    def clean(shelf, rows):
        found.append(first(shelf, rows))
        shelf.shown[3] = replace(shelf.table.load(3), burned_in=False)
        return 3

    monkeypatch.setattr(gallery._Shelf, "first", clean)
    monkeypatch.setattr(
        gallery.CaseScores, "moves", lambda *_: [Move(row=3, level="0.5", finding="bright", change=1.0)]
    )
    pictures = audit(set(range(12)))
    assert found[0] is None
    assert CHECK not in pictures
    assert "shift.xr.dose" in pictures


def test_nothing_is_shown_when_images_are_not_allowed(audit):
    assert audit({0}, images=False) == {}


def test_pictures_of_an_audit_without_annotations_are_made(audit):
    assert {CHECK, "shift.xr.dose"} == audit(set()).keys()


def test_a_strip_says_the_scores_that_the_audit_measured(workshop):
    """Two strips of a condition, of the case chosen by chance and of the one that moves most; nothing else is written."""
    plan = read_plan(workshop / "plan.toml")
    plan = plan.model_copy(update={"report": plan.report.model_copy(update={"images": True})})
    done = run_audit(plan, folder=workshop / "run")
    chosen, farthest = (p for p in done.result.pictures if p.check == CHECK)
    table = _scores(workshop, plan, done.folder)
    fills = [panel.name for panel in chosen.panels[1:]]
    changes = np.abs([table.margins(CHECK, fill, "bright") - table.clean("bright") for fill in fills[:3]])
    row = int(changes.max(0).argmax())
    assert chosen.caption.startswith("A case chosen by chance.")
    assert farthest.caption.startswith(f"The case whose score moves most ({fills[int(changes[:, row].argmax())]}: ")
    for panel in farthest.panels[1:]:
        before, after = (
            sigmoid(float(m[row])) for m in (table.clean("bright"), table.margins(CHECK, panel.name, "bright"))
        )
        assert [(line.name, line.text, line.flips) for line in panel.lines] == [
            ("bright", f"{shown(before)} → {shown(after)}", (before >= 0.5) != (after >= 0.5))
        ]
    assert len(farthest.panels) == 6
    assert farthest.panels[0].difference_base64 == ""
    assert all(panel.difference_base64 for panel in farthest.panels[1:])


def _scores(workshop, plan, folder):
    from robustbench_rad.audit import prepare
    from robustbench_rad.runs import RunFolder

    prepared = prepare(plan)
    with RunFolder.open(folder, prepared.identity, chunk_size=plan.run.chunk_size) as run:
        members = [prepared.table.case_ids[n : n + run.chunk_size] for n in range(0, 36, run.chunk_size)]
        return ScoreTable.join(run.chunks(members), prepared.table.case_ids)


def sigmoid(margin):
    """Probability, the threshold being a half."""
    return 1 / (1 + np.exp(-margin))


def shown(value):
    return "<0.001" if value < 0.0005 else ">0.999" if value > 0.9995 else f"{value:.3f}"


def test_a_condition_that_refuses_the_images_has_no_strip_and_stops_nothing(audit, monkeypatch):
    """What the pass notes as a reason is no internal error when the pictures are made."""
    from robustbench_rad.shifts.xr_dose import XrDose

    def refuse(*_):
        raise DataError("expected projection radiographs, got CT")

    monkeypatch.setattr(XrDose, "apply", refuse)
    assert audit(set()).keys() == {CHECK}
