"""Whole audits of shortcuts on data that lack something: what cannot run says so in the report, and nothing passes for it."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from robustbench_rad.cli import app

JUDGED = ["masked-anatomy", "background-swap", "insert-marker", "insert-text", "remove-markers", "border-ablation"]
BESIDE = ["scanner-dependence", "within-attribute"]
SHOWN = ["hidden-strata", "patch-shuffle", "frequency-bands", "spike-and-recovery", "insert-border"]
COLUMN = [*BESIDE, "metadata-ceiling", "scanner-probe"]
MASKED = ["masked-anatomy", "background-swap"]
PROFILE = "\n".join(
    [
        'name = "shortcuts"\nversion = 1\n[domains.acquisition-shift]\n[domains.shortcut]',
        *(f'[checks."shortcut.{name}"]' for name in (*JUDGED, *SHOWN, *COLUMN, "remove-tubes")),
    ]
)


def films(folder, count):
    """Write the table, and films of as many patients, half of them brighter where the mask is."""
    rng = np.random.default_rng(2)
    lines = ["image,patient,label,scanner,mask"]
    mask = np.asarray(Image.open(folder / "images" / "mask.png"))
    for index in range(count):
        label = index % 2
        plane = rng.normal(116, 5) + rng.normal(0, 20, (20, 20)) + 62 * (label - 0.5) * (mask > 0)
        Image.fromarray(plane.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{index}.png")
        lines.append(f"images/{index}.png,p{index},{label},{'AB'[index // 2 % 2]},images/mask.png")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def given(workshop, edit, monkeypatch):
    """The workshop with every shortcut audit, and three times as many cases: 54 positives of as many patients."""
    monkeypatch.chdir(workshop)
    (workshop / "profile.toml").write_text(PROFILE)
    films(workshop, 108)
    return workshop


def audited(folder="run"):
    """Check → its criteria, and the notices, of an audit by the command line."""
    made = CliRunner().invoke(app, ["audit", "plan.toml", "--run-folder", folder])
    assert made.exception is None or isinstance(made.exception, SystemExit), made.exception
    assert "Traceback" not in made.output
    with open(f"{folder}/result.json", encoding="utf-8") as file:
        result = json.load(file)
    criteria = {}
    for criterion in result["criteria"]:
        criteria.setdefault(criterion["check"], []).append(criterion)
    return criteria, result["notices"]


def rewritten(folder, column, values):
    lines = [line.split(",") for line in (folder / "cases.csv").read_text().splitlines()]
    place = lines[0].index(column)
    for line, value in zip(lines[1:], values, strict=True):
        line[place] = value
    (folder / "cases.csv").write_text("\n".join(",".join(line) for line in lines) + "\n")


def not_assessable(criteria, checks, said):
    for check in (f"shortcut.{name}" for name in checks):
        assert criteria[check], check
        for criterion in criteria[check]:
            assert criterion["verdict"] in ("inconclusive", "informational"), criterion
            assert "not assessable" in criterion["reason"], criterion
            assert said in criterion["reason"], criterion


def tubes_need(criteria, said):
    """What the removal of tubes says that it needs; what it does to the score may be shown beside."""
    owed = [one for one in criteria["shortcut.remove-tubes"] if one["quantity"] == "dependence owed to tubes"]
    not_assessable({"shortcut.remove-tubes": owed}, ["remove-tubes"], said)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (None, "no anatomy masks: declare [data.anatomy]"),
        (np.zeros_like, "the anatomy masks are all empty"),
        (lambda mask: 255 - mask, "check that they are not inverted"),
    ],
    ids=["none", "empty", "inverted"],
)
def test_without_usable_masks_the_audits_of_masks_alone_are_not_assessable(given, edit, spoil, said):
    if spoil is None:
        edit('anatomy = { column = "mask" }\n', "")
    else:
        path = given / "images" / "mask.png"
        Image.fromarray(spoil(np.asarray(Image.open(path)))).save(path)
    criteria, _ = audited()
    not_assessable(criteria, MASKED, said)
    tubes_need(criteria, "no case has an anatomy mask to look for lines in: declare [data.anatomy]")
    assert any("not assessable" not in criterion["reason"] for criterion in criteria["shortcut.border-ablation"])
    assert {f"shortcut.{name}" for name in (*JUDGED, *BESIDE)} <= criteria.keys()


def masks_of(folder, kinds):
    """Give each case a mask of a kind: ``mask`` (right), ``wide`` (of another size) or ``empty``; "" for none."""
    plane = np.asarray(Image.open(folder / "images" / "mask.png"))
    Image.fromarray(np.pad(plane, ((0, 0), (0, 7)))).save(folder / "images" / "wide.png")
    Image.fromarray(np.zeros_like(plane)).save(folder / "images" / "empty.png")
    rewritten(folder, "mask", [kind and f"images/{kind}.png" for kind in kinds])


def preflight(folder="run"):
    """Name → item of the preflight."""
    with open(f"{folder}/result.json", encoding="utf-8") as file:
        return {item["name"]: item for item in json.load(file)["preflight"]}


RESAMPLE = ": resample each mask to the size of its image with nearest neighbour"
WRONG = "the anatomy masks have another size than their images"


@pytest.mark.parametrize(
    ("kinds", "count", "said"),
    [
        (["wide"] * 108, 108, WRONG + RESAMPLE),
        (
            ["wide"] * 36 + ["empty"] * 72,
            36,
            f"{WRONG} in 36 of 108 cases, and the others have empty ones or none{RESAMPLE}",
        ),
    ],
    ids=["all", "or empty"],
)
def test_with_masks_of_the_wrong_size_the_audits_of_masks_say_so_and_the_rest_goes_on(given, kinds, count, said):
    masks_of(given, kinds)
    criteria, _ = audited()
    not_assessable(criteria, MASKED, said)
    tubes_need(criteria, "no case has an anatomy mask to look for lines in: declare [data.anatomy]")
    assert any("not assessable" not in criterion["reason"] for criterion in criteria["shortcut.border-ablation"])
    assert {f"shortcut.{name}" for name in (*JUDGED, *BESIDE)} <= criteria.keys()
    item = preflight()["anatomy masks"]
    assert item["status"] == "warning"
    assert item["detail"].startswith(f"{count} of 108 cases come with an anatomy mask of another size than their image")
    assert f"20 × 27 for an image of 20 × 20 ({count})" in item["detail"]


def test_one_mask_of_the_wrong_size_among_many_is_as_one_that_is_missing_and_is_named(given):
    masks_of(given, ["mask"] * 60 + [""] + ["mask"] * 47)
    without, _ = audited("without")
    assert "anatomy masks" not in preflight("without")
    masks_of(given, ["mask"] * 60 + ["wide"] + ["mask"] * 47)
    priced = CliRunner().invoke(app, ["audit", "plan.toml", "--price"])
    assert priced.exit_code == 0
    for words in ("1 of 108 cases comes with an anatomy mask", "images/60.png", "images/wide.png", "got 20 × 27"):
        assert words in " ".join(priced.output.split())
    criteria, notices = audited()
    for check in (f"shortcut.{name}" for name in MASKED):
        assert [item["harm"] for item in criteria[check]] == [item["harm"] for item in without[check]]
        assert all("not assessable" not in item["reason"] for item in criteria[check])
    assert any("1 of 108 cases have no anatomy mask, or an empty one, or one of another size" in n for n in notices)
    text = (given / "run" / "result.json").read_text(encoding="utf-8")
    assert "wide.png" not in text
    assert preflight()["anatomy masks"]["detail"].startswith(
        "1 of 108 cases comes with an anatomy mask of another size"
    )


def test_what_is_said_of_masks_of_the_wrong_size_does_not_depend_on_chunks_batches_workers_or_resumption(given, edit):
    masks_of(given, ["wide", "empty", "wide", ""] * 27)
    criteria, _ = audited()
    first = preflight()
    (given / "run" / "result.json").unlink()
    for chunk in sorted((given / "run" / "chunks").iterdir())[3:9]:
        chunk.unlink()
    resumed, _ = audited()
    assert (resumed, preflight()) == (criteria, first)
    edit("chunk_size = 8\nbatch_size = 4", "chunk_size = 27\nbatch_size = 9\nworkers = 1")
    again, _ = audited("again")
    assert preflight("again")["anatomy masks"] == first["anatomy masks"]
    for check in (f"shortcut.{name}" for name in MASKED):
        assert [item["reason"] for item in again[check]] == [item["reason"] for item in criteria[check]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["A"] * 108, "two are needed"),
        ([f"t{index}" for index in range(108)], "group them"),
        ([""] * 108, "two are needed"),
    ],
    ids=["one value", "as many as cases", "missing"],
)
def test_a_column_that_tells_nothing_is_not_assessable_and_the_rest_goes_on(given, values, said):
    rewritten(given, "scanner", values)
    criteria, _ = audited()
    not_assessable(criteria, COLUMN, said)
    tubes_need(criteria, said)
    assert any("not assessable" not in criterion["reason"] for criterion in criteria["shortcut.masked-anatomy"])


def test_without_any_metadata_each_audit_of_columns_says_what_to_declare(given, edit):
    edit('metadata = { scanner = "nuisance" }\n', "")
    criteria, _ = audited()
    not_assessable(criteria, COLUMN, "metadata = { scanner")
    tubes_need(criteria, "metadata = { scanner")
    assert any("not assessable" not in criterion["reason"] for criterion in criteria["shortcut.masked-anatomy"])


CENTRE = """
from torch import nn


class Centre(nn.Module):  # how much brighter the centre is than the film
    def forward(self, x):
        return 40 * (x[:, 0, 5:11, 5:11].mean((1, 2)) - x.flatten(1).median(1).values)[:, None]
"""


def test_a_limit_of_detection_that_is_too_high_takes_the_passes_of_a_whole_audit(given, edit):
    (given / "centre.py").write_text(CENTRE)
    edit("model.py:brightness", "centre.py:Centre")
    spike = '[checks."shortcut.spike-and-recovery"]'
    edit(spike, f"{spike}\nstrengths = [0.5, 5.0]\nhighest_limit = 5", "profile.toml")
    seen, notices = audited()
    (item,) = seen["shortcut.masked-anatomy"]
    assert item["verdict"] == "pass"
    assert any("SD of the margin or more would be found" in notice for notice in notices)
    edit("highest_limit = 5", "highest_limit = 0.01", "profile.toml")
    doubted, _ = audited("again")
    assert not [
        one for items in doubted.values() for one in items if (one["domain"], one["verdict"]) == ("shortcut", "pass")
    ]
    (item,) = doubted["shortcut.masked-anatomy"]
    assert item["verdict"] == "inconclusive"
    assert "no shortcut found means little here" in item["reason"]


def test_slices_that_nobody_declared_are_looked_for_in_the_features_that_the_probe_has_kept(given, edit):
    edit("model.py:brightness", "model.py:build")
    films(given, 360)
    kept = "\n".join(f'[checks."shortcut.{name}"]' for name in ("hidden-strata", "scanner-probe"))
    (given / "profile.toml").write_text(f'name = "slices"\nversion = 1\n[domains.shortcut]\n{kept}')
    criteria, _ = audited()
    (item,) = (one for one in criteria["shortcut.hidden-strata"] if "slice" in one["quantity"])
    assert "a hypothesis, not judged" in item["reason"]
    assert item["harm"]["lower"] <= item["harm"]["estimate"] <= item["harm"]["upper"]


ANATOMY = ["masked-anatomy", "background-swap", "remove-markers"]


@pytest.fixture
def with_atlas(given, edit):
    """The audits of masks alone; the mask of the cases is written as an atlas too, as large as the films."""
    kept = "\n".join(f'[checks."shortcut.{name}"]' for name in ANATOMY)
    (given / "profile.toml").write_text(f'name = "masks"\nversion = 1\n[domains.shortcut]\n{kept}\n')
    (given / "atlas.png").write_bytes((given / "images" / "mask.png").read_bytes())

    def declare(text):
        edit('anatomy = { column = "mask" }', f"anatomy = {{ {text} }}")

    return declare


def outline_rows(folder):
    """Fill → its row of the table of masked anatomy."""
    with open(f"{folder}/result.json", encoding="utf-8") as file:
        (table,) = (one for one in json.load(file)["tables"] if one["title"] == "What is left without the anatomy")
    return {row[1]: dict(zip(table["columns"][2:5], row[2:5], strict=True)) for row in table["rows"]}


def test_an_atlas_is_judged_as_the_same_mask_for_each_case_is(given, with_atlas):
    by_case, _ = audited("masks")
    with_atlas('atlas = "atlas.png"')
    by_atlas, notices = audited("atlas")
    assert by_atlas == by_case
    for check in (f"shortcut.{name}" for name in MASKED):
        assert all(item["harm"]["estimate"] is not None for item in by_atlas[check]), by_atlas[check]
    (item,) = by_atlas["shortcut.masked-anatomy"]
    assert "above chance and the shape's 0.500 to 0.500" in item["harm"]["method"]
    assert "anatomy masks" not in preflight("atlas")
    assert not [notice for notice in notices if "no anatomy mask" in notice]
    rows = outline_rows("atlas")
    assert rows["shape-only"]["AUROC"] == 0.5
    assert rows["shape-only"]["cases"] == rows["atlas-mean"]["cases"] == 108


@pytest.mark.parametrize("workers", [0, 1])
def test_an_atlas_drawn_on_the_models_input_serves_films_of_many_sizes(given, edit, with_atlas, workers):
    from scipy import ndimage

    for index in range(0, 108, 3):
        path = given / "images" / f"{index}.png"
        plane = ndimage.zoom(np.asarray(Image.open(path)), (1 + index % 2, 1.55), order=1)
        Image.fromarray(plane).save(path)
    with_atlas('atlas = "atlas.png"')
    edit("batch_size = 4", f"batch_size = 4\nworkers = {workers}")
    audited("some")
    item = preflight("some")["anatomy masks"]
    assert item["status"] == "warning"
    assert item["detail"].startswith("the atlas, 20 × 20, fits the images of 72 of 108 cases")
    assert "draw the atlas at the size of the model's input, 16 × 16" in item["detail"]
    drawn = np.zeros((16, 16), np.uint8)
    drawn[3:13, 3:13] = 255
    Image.fromarray(drawn).save(given / "atlas.png")
    every, notices = audited("every")
    assert "anatomy masks" not in preflight("every")
    assert not [notice for notice in notices if "no anatomy mask" in notice]
    (item,) = every["shortcut.masked-anatomy"]
    assert item["harm"]["estimate"] is not None
    assert "the shape's 0.500 to 0.500" in item["harm"]["method"]
    assert outline_rows("some")["shape-only"]["cases"] == 72
    assert outline_rows("every")["shape-only"]["cases"] == 108


def test_an_atlas_that_fits_no_image_leaves_the_audits_of_masks_not_assessable(given, with_atlas):
    Image.fromarray(np.pad(np.asarray(Image.open(given / "atlas.png")), ((0, 0), (0, 7)))).save(given / "atlas.png")
    with_atlas('atlas = "atlas.png"')
    criteria, _ = audited()
    not_assessable(criteria, MASKED, "or an atlas to the size of the model's input, which fits images of every size")
    assert preflight()["anatomy masks"]["detail"].startswith("the atlas, 20 × 27, fits the images of 0 of 108 cases")


@pytest.mark.parametrize("command", [["audit", "plan.toml"], ["audit", "plan.toml", "--price"], ["gate", "plan.toml"]])
def test_an_atlas_that_is_not_there_ends_with_exit_code_2_and_names_key_file_and_what_is_expected(
    given, with_atlas, command
):
    with_atlas('atlas = "nowhere.png"')
    made = CliRunner().invoke(app, command)
    said = " ".join(made.output.split())
    assert made.exit_code == 2, said
    for words in (
        "data.anatomy.atlas = 'nowhere.png'",
        "no such mask file",
        "one mask for all cases (PNG, TIFF, NPY, NPZ or NIfTI)",
        "relative to the plan",
    ):
        assert words in said
    assert "Traceback" not in made.output


def test_a_changed_atlas_is_other_data_for_a_run_folder_and_the_same_atlas_continues(given, with_atlas):
    with_atlas('atlas = "atlas.png"')
    first, _ = audited()
    (given / "run" / "result.json").unlink()
    for chunk in sorted((given / "run" / "chunks").iterdir())[2:5]:
        chunk.unlink()
    assert audited()[0] == first
    drawn = np.asarray(Image.open(given / "atlas.png")).copy()
    drawn[:9] = 0
    Image.fromarray(drawn).save(given / "atlas.png")
    refused = CliRunner().invoke(app, ["audit", "plan.toml", "--run-folder", "run"])
    assert refused.exit_code == 2
    assert "another data" in " ".join(refused.output.split())
    again, _ = audited("again")
    assert again["shortcut.masked-anatomy"] != first["shortcut.masked-anatomy"]
