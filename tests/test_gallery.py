"""Pictures: nothing that is burned into a case is seen in any of them, not even in the image of another case."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_rad import gallery
from robustbench_rad.audit import run_audit
from robustbench_rad.cases import CaseTable
from robustbench_rad.plan import read_plan

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
        return {p.check: p.png_base64 for p in run_audit(plan, folder=workshop / name).result.pictures}

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
    example = gallery._example
    found = []
    monkeypatch.setattr(gallery, "_example", lambda prepared: found.append(example(prepared)) or clean(prepared))

    def clean(prepared):
        return replace(prepared.table.load(3), burned_in=False)

    pictures = audit(set(range(12)))
    assert found == [None]
    assert CHECK not in pictures
    assert "shift.xr.dose" in pictures


def test_nothing_is_shown_when_images_are_not_allowed(audit):
    assert audit({0}, images=False) == {}


def test_pictures_of_an_audit_without_annotations_are_made(audit):
    assert {CHECK, "shift.xr.dose"} == audit(set()).keys()


def test_the_difference_of_every_level_lies_under_it():
    """Mid-grey under the original; white where a level is brighter by as much as the scale says."""
    planes = [torch.full((4, 6), 0.5), torch.full((4, 6), 0.7)]
    planes[1][0] = 0.3
    scale = gallery._largest_difference(planes)
    with Image.open(io.BytesIO(base64.b64decode(gallery._png(planes, scale)))) as image:
        shown = np.asarray(image)
    assert scale == pytest.approx(0.2, abs=1e-6)
    assert shown.shape == (4 + gallery.GAP + 4, 6 + gallery.GAP + 6)
    assert set(shown[-4:, :6].flatten()) == {128}
    assert set(shown[-4, -6:]) == {0}
    assert set(shown[-3, -6:]) == {255}
    assert set(shown[:4, :6].flatten()) == {128}
