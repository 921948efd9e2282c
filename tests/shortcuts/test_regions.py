"""Regions beside the anatomy: covered for the findings whose evidence may lie there, kept in a swap; and exempt findings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_rad.checks import background_swap, border_ablation
from robustbench_rad.checks import masked_anatomy as judge
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import PlanError
from robustbench_rad.plan import make_plan
from robustbench_rad.profile import Profile, check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable
from robustbench_rad.scoring.outcomes import check_outcomes
from robustbench_rad.shortcuts.background_swap import BackgroundSwap, donor_level
from robustbench_rad.shortcuts.border_ablation import BorderAblation
from robustbench_rad.shortcuts.masked_anatomy import NO_SPACING, MaskedAnatomy, fill_level

SIDE = 64
CHECK = check_spec("shortcut.masked-anatomy", {})
SWAP, BORDER = check_spec("shortcut.background-swap", {}), check_spec("shortcut.border-ablation", {})


def donor_levels():
    return tuple(donor_level(number) for number in (1, 2, 3))


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


def test_an_exempt_finding_is_shown_and_never_judged():
    """Not a failure, and not what caps the score either: a device lies where it lies."""
    criterion = judged({"f": "exempt"}, "corner.png")
    assert criterion.verdict == "informational"
    assert "may lie anywhere in the image; shown, not judged" in criterion.reason
    assert criterion.harm.lower > 0.05  # would fail else
    assert criterion.tolerance is None


def two_findings(legitimate):
    """One finding of the lungs, and a device that is seen outside of them and goes with nothing else."""
    rng = np.random.default_rng(1)
    n, donors = 600, donor_levels()
    label = np.stack([rng.random(n) < 0.5, rng.random(n) < 0.5], axis=1).astype(float)
    dealt = np.stack([rng.permutation(n) for _ in donors], axis=1)
    lung, device = (2 * label[:, k] + rng.normal(size=n) for k in (0, 1))
    columns = {("clean", "", "lung"): lung, ("clean", "", "device"): device}
    quantities = {Quantity(condition=SWAP.id, name="own_number_as_donor"): np.arange(n)}
    for k, level in enumerate(donors):
        columns[SWAP.id, level.name, "lung"] = lung
        columns[SWAP.id, level.name, "device"] = device[dealt[:, k]]
        quantities[Quantity(condition=SWAP.id, name="donor", level=level.name)] = dealt[:, k]
        for j, finding in enumerate(("lung", "device")):
            of = Quantity(condition=SWAP.id, name="donor_label", level=level.name, finding=finding)
            quantities[of] = label[dealt[:, k], j]
    for level in ("ring", "corners"):
        columns[BORDER.id, level, "lung"], columns[BORDER.id, level, "device"] = lung, rng.normal(size=n)
    for fill in judge.FILLS:
        columns[CHECK.id, fill, "lung"], columns[CHECK.id, fill, "device"] = np.zeros(n), device
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(n))),
            columns={
                Column(condition=c, level=level, finding=f): np.asarray(values, np.float32)
                for (c, level, f), values in columns.items()
            },
            quantities={key: np.asarray(values, np.float32) for key, values in quantities.items()},
        ),
        findings=("lung", "device"),
        labels=label,
        patients=np.arange(n),
        levels={
            SWAP.id: donors,
            BORDER.id: BorderAblation().levels,
            CHECK.id: tuple(map(fill_level, judge.FILLS)),
        },
        legitimate=legitimate,
    )


@pytest.mark.parametrize(
    ("module", "check"), [(judge, CHECK), (background_swap, SWAP), (border_ablation, BORDER)], ids=lambda one: ""
)
def test_every_audit_of_what_lies_outside_leaves_an_exempt_finding_unjudged_and_judges_the_others(module, check):
    as_it_is = {item.criterion.finding: item.criterion for item in module.judge(two_findings({}), check).judged}
    assert as_it_is["device"].verdict is Verdict.FAIL
    outcome = module.judge(two_findings({"device": "exempt"}), check)
    verdicts = {(item.criterion.finding, item.criterion.verdict) for item in outcome.judged}
    assert verdicts == {("lung", Verdict.PASS), ("device", Verdict.INFORMATIONAL)}
    assert f"{check.id}: device not judged: exempt by [data.anatomy] legitimate" in outcome.notices
    everything = module.judge(two_findings({"device": "exempt", "lung": "exempt"}), check)
    assert {item.criterion.verdict for item in everything.judged} == {Verdict.INFORMATIONAL}


def test_what_judges_nothing_for_all_is_exempt_is_missing_and_no_pass():
    profile = Profile(name="test", version=1, sha256="", minimum_auroc=0.7, weights={}, checks=(CHECK,))
    for legitimate, passed in (({"device": "exempt"}, True), ({"device": "exempt", "lung": "exempt"}, False)):
        items = judge.judge(two_findings(legitimate), CHECK).judged
        (found,) = (one for one in check_outcomes(items, profile, np.zeros((1, len(items)))) if one.id == CHECK.id)
        assert bool(found.passed[0]) is passed
        assert bool(found.points[0] >= 70) is passed


def test_a_swap_leaves_the_regions_of_findings_with_the_patient(tmp_path):
    given = batch()
    plain, wider = (
        BackgroundSwap(levels=donor_levels()[:1]).bound(plan(tmp_path, legitimate))
        for legitimate in ({}, {"effusion": "costophrenic-angles", "tube": "exempt"})
    )
    (with_plain, state), (with_wider, grown) = fitted(plain, given), fitted(wider, given)
    assert (grown["atlas"] >= state["atlas"]).all()
    extra = (grown["atlas"] & ~state["atlas"])[0, 0].nonzero()
    assert len(extra)
    assert extra[:, 0].min() >= 30
    own, swapped, kept = given.images, with_plain["donor 1"].images, with_wider["donor 1"].images
    region = (grown["atlas"] & ~state["atlas"]).expand_as(own)
    torch.testing.assert_close(kept[region], own[region])
    assert (swapped[region] != own[region]).any()
    assert not plain.reads_sha256
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(tmp_path / "line.png")
    assert BackgroundSwap().bound(plan(tmp_path, {"nodule": "line.png"})).reads_sha256
