"""Regions beside the anatomy: covered for the findings whose evidence may lie there, and for them alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_rad.checks import masked_anatomy as judge
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import PlanError
from robustbench_rad.plan import make_plan
from robustbench_rad.profile import check_spec
from robustbench_rad.scores import Column, ScoreTable
from robustbench_rad.shortcuts.masked_anatomy import NO_SPACING, MaskedAnatomy

SIDE = 64
CHECK = check_spec("shortcut.masked-anatomy", {})


class Query:
    findings = ("effusion", "nodule", "tube")


def batch(count=8, spacing_mm=0.5):
    mask = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    mask[..., 10:40, 12:52] = True
    images = torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images = torch.where(mask | (torch.arange(SIDE) % 5 == 0), images, 0.4)  # films equally bright: few pixels differ
    names = tuple(f"c{row}" for row in range(count))
    return Batch(
        images=images,
        labels=torch.zeros(count, 3),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(range(count)),
        space=Space.DISPLAY,
        anatomy=mask,
        spacing_mm=torch.full((count, 2), spacing_mm),
    )


def plan(tmp_path, legitimate):
    model = {"factory": "a:b", "head": "sigmoid", "findings": list(Query.findings), "input": {"size": [SIDE, SIDE]}}
    model["thresholds"] = dict.fromkeys(Query.findings, 0.5)
    model["input"] |= {"channels": 1, "range": [0.0, 1.0]}
    data = {
        "source": "manifest",
        "manifest": "m.csv",
        "image": "image",
        "findings": {name: name for name in Query.findings},
        "modality": "DX",
        "stored_bits": 8,
        "anatomy": {"provider": "hull", "legitimate": legitimate},
    }
    return make_plan({"model": model, "data": data}, base=tmp_path)


def fitted(condition, given):
    state = condition.fit(None, iter([given]))
    return {v.level.name: v for v in condition.apply(given, Query(), state).variants}, state


def test_a_region_is_covered_for_its_findings_alone(tmp_path):
    condition = MaskedAnatomy(donors=3).bound(plan(tmp_path, {"effusion": "costophrenic-angles", "tube": "exempt"}))
    given = batch()
    variants, state = fitted(condition, given)
    plain, wider = variants["atlas-mean"].images, variants["atlas-mean with costophrenic-angles"].images
    extra = (plain != wider)[0, 0].nonzero()
    assert len(extra)
    assert extra[:, 0].min() >= 30  # below, at the outer corners
    assert ((extra[:, 1] < 28) | (extra[:, 1] > 36)).all()
    assert variants["atlas-mean with costophrenic-angles"].excluded_findings == ("nodule", "tube")
    assert variants["atlas-mean"].excluded_findings == ()
    corner = wider[:, 0, 42, 12]
    torch.testing.assert_close(corner, state["mean"][0, 0, 42, 12].expand(len(given)))


def test_a_mask_of_the_user_is_a_region_and_part_of_the_identity_of_the_run(tmp_path):
    region = np.zeros((32, 32), np.uint8)
    region[:4, :4] = 255
    Image.fromarray(region).save(tmp_path / "corner.png")
    condition = MaskedAnatomy(donors=3).bound(plan(tmp_path, {"nodule": "corner.png"}))
    assert condition.reads_sha256
    variants, state = fitted(condition, batch())
    covered = variants["atlas-mean with corner.png"].images[:, 0, :8, :8]
    torch.testing.assert_close(covered, state["mean"][0, 0, :8, :8].expand_as(covered))
    assert not MaskedAnatomy().bound(plan(tmp_path, {})).reads_sha256


@pytest.mark.parametrize(
    ("legitimate", "said"),
    [
        ({"efusion": "exempt"}, "no finding 'efusion'"),
        ({"effusion": "nowhere.png"}, "neither a region nor a mask file"),
    ],
)
def test_nonsense_is_refused(tmp_path, legitimate, said):
    with pytest.raises(PlanError, match=said):
        MaskedAnatomy().bound(plan(tmp_path, legitimate))


def test_millimetres_of_dilation_follow_the_spacing():
    areas = [
        int(MaskedAnatomy(donors=3, dilation_mm=4.0).fit(None, iter([batch(spacing_mm=mm)]))["atlas"].sum())
        for mm in (0.5, 1.0, 2.0)
    ]
    assert areas == [(30 + 2 * r) * (40 + 2 * r) if r < 10 else areas[0] for r in (8, 4, 2)]


def test_millimetres_without_spacing_are_not_assessable():
    given = replace(batch(), spacing_mm=torch.full((8, 2), torch.nan))
    variants, _ = fitted(MaskedAnatomy(donors=3, dilation_mm=4.0), given)
    assert {variant.reason for variant in variants.values()} == {NO_SPACING}


def judged(legitimate, level):
    rng = np.random.default_rng(0)
    label = np.tile([1.0, 0.0], 200)
    clean = 3 * (label - 0.5) + rng.normal(size=400)
    masked = 0.5 * clean  # all of the shortcut is left
    columns = {("clean", ""): clean}
    columns |= {(CHECK.id, fill): masked for fill in judge.FILLS}
    columns |= {(CHECK.id, f"{fill} with {level}"): 0.003 * rng.normal(size=400) for fill in judge.FILLS}
    levels = MaskedAnatomy().levels
    levels = (*levels, *(replace(levels[0], name=f"{fill} with {level}") for fill in judge.FILLS))
    context = JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(400))),
            columns={Column(condition=c, level=v, finding="f"): m.astype(np.float32) for (c, v), m in columns.items()},
            quantities={},
        ),
        findings=("f",),
        labels=label[:, None],
        patients=np.arange(400),
        levels={CHECK.id: levels},
        legitimate=legitimate,
    )
    (item,) = judge.judge(context, CHECK).judged
    return item.criterion


def test_a_finding_is_judged_by_the_images_that_cover_its_region():
    assert judged({}, "corner.png").verdict == "fail"
    assert judged({"f": "masks/corner.png"}, "corner.png").verdict == "pass"


def test_an_exempt_finding_is_not_assessable_and_says_why():
    criterion = judged({"f": "exempt"}, "corner.png")
    assert criterion.verdict == "inconclusive"
    assert "may lie anywhere" in criterion.reason
