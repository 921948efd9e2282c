"""Pictures: nothing that is burned into a case is seen in any of them, not even in the image of another case."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from robustbench_rad import gallery
from robustbench_rad.audit import run_audit
from robustbench_rad.cases import CaseTable
from robustbench_rad.errors import DataError
from robustbench_rad.gallery_scores import Move
from robustbench_rad.plan import read_plan
from robustbench_rad.result import Picture
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
    from robustbench_rad.evaluation.batches import Batches

    batch = Batches._batch
    monkeypatch.setattr(Batches, "_batch", lambda *a, **k: replace(batch(*a, **k), burned_in=()))
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


SWAP, BORDER = "shortcut.background-swap", "shortcut.insert-border"


@pytest.fixture
def with_pairs(workshop):
    """A background swap and an insertion beside the checks of the workshop."""
    profile = workshop / "profile.toml"
    profile.write_text(profile.read_text() + f'\n[checks."{SWAP}"]\nlevels = [1, 2]\n\n[checks."{BORDER}"]\n')


def test_an_object_stands_beside_its_placebo_and_a_swap_beside_its_donor(with_pairs, audit):
    found = {check: [Picture.model_validate_json(text) for text in texts] for check, texts in audit(set()).items()}
    for picture in (p for p in found[BORDER] if not p.field):
        names = [(panel.group, panel.name) for panel in picture.panels]
        assert names[0] == ("", "original")
        assert names[1:3] == [("black frame", "black frame"), ("black frame", "black frame, placebo")]
    for picture in found[SWAP]:
        names = [(panel.group, panel.name, bool(panel.difference_base64)) for panel in picture.panels]
        assert names[1:3] == [("donor 1", "donor 1, its own image", False), ("donor 1", "donor 1", True)]
        assert picture.panels[1].lines[0].text in ("Labelled: bright", "Labelled: none of the findings")
    assert sum(picture.field for picture in found[BORDER]) == 1  # the mean image of another check, behind the positions


def test_the_donor_that_is_shown_is_the_one_whose_surroundings_are_seen(with_pairs, audit):
    """Outside of the anatomy the swapped image is the donor's, up to JPEG."""
    picture = Picture.model_validate_json(audit(set())[SWAP][0])
    donor, swapped = (decoded(panel.jpeg_base64) for panel in picture.panels[1:3])
    corner = (slice(0, 2), slice(None))
    assert np.abs(donor[corner] - swapped[corner]).mean() < 8
    others = [decoded(panel.jpeg_base64) for panel in picture.panels[3:4]]
    assert np.abs(others[0][corner] - swapped[corner]).mean() > 12


def test_no_pixel_of_an_annotation_is_in_any_donor(with_pairs, audit):
    burned = set(range(12)) - {3, 4, 8}
    white, black = audit(burned, 1.0), audit(burned, 0.0)
    assert SWAP in white
    assert white == black


def decoded(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image).astype(int)
