"""init's look at columns and at the words of TOML."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robustbench_rad.data.labels import TextTable
from robustbench_rad.errors import DataError
from robustbench_rad.init_columns import look_at_columns, role_of
from robustbench_rad.init_text import Entry, Section, guessed, place, plain, render, toml


@pytest.fixture
def look(tmp_path):
    """Look at columns given as lists; eight images exist."""
    for number in range(8):
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.png")

    def make(**columns):
        columns = {"image": [f"{n}.png" for n in range(8)], **columns}
        rows = tuple(zip(*(map(str, column) for column in columns.values()), strict=True))
        table = TextTable(path=tmp_path / "t.csv", columns=tuple(columns), rows=rows, lines=tuple(range(2, 10)))
        return look_at_columns(table)

    return make


HALF = [0, 1] * 4


def test_prefixed_labels_win_over_other_binary_columns(look):
    found = look(label_Effusion=HALF, label_Mass=[0] * 8, smoker=HALF, portable=HALF)
    assert found.labels == {"Effusion": "label_Effusion", "Mass": "label_Mass"}
    assert found.roles == {"portable": "risk_factor"}
    assert found.others == ("smoker",)


def test_a_copy_of_a_label_is_told_from_metadata(tmp_path):
    columns = {
        "label_a": [0, 1] * 6,
        "same": [0, 1] * 6,
        "diagnosis": ["healthy", "ill"] * 6,
        "site": ["B", "A"] * 6,
        "nearly": ["healthy", "ill"] * 5 + ["ill", "healthy"],
        "finer": ["healthy", "ill", "healthy", "very ill"] * 3,
    }
    rows = tuple(zip(*(map(str, column) for column in columns.values()), strict=True))
    found = look_at_columns(
        TextTable(path=tmp_path / "t.csv", columns=tuple(columns), rows=rows, lines=tuple(range(12)))
    )
    assert found.copies == {"same": "label_a", "diagnosis": "label_a", "site": "label_a"}
    assert found.others == ("nearly", "finer")
    assert found.roles == {"site": "nuisance"}


def test_known_findings_are_labels(look):
    found = look(pneumothorax=[0, 1, "", -1] * 2, smoker=HALF)
    assert found.labels == {"pneumothorax": "pneumothorax"}
    assert found.uncertain == ("pneumothorax",)


def test_any_other_column_of_1_and_0_is_only_guessed_to_be_a_label(look):
    found = look(zzz=HALF, sex=HALF, fold=HALF, ones=[1] * 8)
    assert found.labels == {"zzz": "zzz"}
    assert found.labels_note == guessed("columns of 1 and 0 with no other meaning by name")


def test_columns_named_like_labels_that_hold_something_else_are_reported(look):
    found = look(label_a=HALF, label_b=["yes", "no"] * 4)
    assert found.labels == {"a": "label_a"}
    assert found.odd_labels == ("label_b",)


def test_masks_and_lesions_are_told_by_name_and_must_exist(look):
    files = [f"{n}.png" for n in range(8)]
    found = look(lung_mask=files, tumour_mask=files, heart_mask=["absent.png"] * 8)
    assert (found.image, found.mask, found.lesion) == ("image", "lung_mask", "tumour_mask")


def test_a_column_of_files_of_which_most_are_missing_is_none(look):
    assert look(image=["0.png", "1.png", *["absent.png"] * 6]).image is None
    assert look(image=[*[f"{n}.png" for n in range(6)], *["absent.png"] * 2]).image == "image"


@pytest.mark.parametrize("name", ["patient_id", "PatientID", "subject", "MRN", "pid"])
def test_patients(look, name):
    assert look(**{name: [f"p{n // 2}" for n in range(8)]}).patient == name


def test_a_patients_age_is_no_patient_and_gaps_make_none(look):
    found = look(patient_age=["30-39", "40-49"] * 4, subject=["", "a"] * 4)
    assert found.patient is None
    assert found.roles == {"patient_age": "demographic"}


def test_a_case_column_only_where_images_repeat(look):
    assert look(case_id=range(8)).case is None
    assert look(image=["0.png"] * 8, case_id=range(8)).case == "case_id"


def test_spacing_is_no_metadata(look):
    found = look(pixel_spacing_mm=[0.1, 0.2] * 4)
    assert found.spacing == "pixel_spacing_mm"
    assert found.others == ()


def test_columns_of_one_value_or_of_many_are_no_metadata(look):
    assert look(scanner=["A"] * 8, site=["x", ""] * 4).roles == {}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ManufacturerModelName", "nuisance"),
        ("KVP", "nuisance"),
        ("hospital site", "nuisance"),
        ("ViewPosition", "risk_factor"),
        ("support_device", "risk_factor"),
        ("Sex", "demographic"),
        ("age_band", "demographic"),
        ("image", None),
        ("dosage", None),
    ],
)
def test_roles(name, role):
    assert role_of(name) == role


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
values = st.recursive(
    names | st.booleans() | st.integers(-9, 9) | st.floats(-1e6, 1e6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(names, values, max_size=4), names)
def test_whatever_is_written_reads_back(content, note):
    entries = tuple(Entry(key=key, value=value, note=guessed(note)) for key, value in content.items())
    remarks = (Entry(note=guessed(note)), Entry(key=note, value=note, note=guessed(note), active=False))
    text = render([], [Section(name="a", entries=(*entries, *remarks))])
    assert tomllib.loads(text) == {"a": content}


def test_long_lists_are_folded():
    content = [f"finding number {n}" for n in range(30)]
    text = render([], [Section(entries=(Entry(key="findings", value=content),))])
    assert max(map(len, text.splitlines())) <= 120
    assert tomllib.loads(text) == {"findings": content}


def test_a_name_that_is_no_unicode_is_refused():
    with pytest.raises(DataError, match="expected a name in Unicode"):
        toml("a\udcff")


def test_paths_far_away_and_paths_that_look_like_home_are_absolute(tmp_path):
    base = tmp_path / "a" / "b"
    base.mkdir(parents=True)
    assert place(tmp_path / "x.csv", base) == "../../x.csv"
    assert place(base / "~x.csv", base) == (base / "~x.csv").absolute().as_posix()
    assert Path(place(Path("/x.csv"), base / "c" / "d" / "e" / "f")).is_absolute()


def test_symbolic_links_stay_as_they_were_named(tmp_path, monkeypatch):
    (tmp_path / "disk" / "deep" / "films").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data").symlink_to(tmp_path / "disk" / "deep" / "films")
    monkeypatch.chdir(tmp_path / "project")
    assert place(Path("data/t.csv"), Path()) == "data/t.csv"
    assert place(tmp_path / "project" / "data" / "t.csv", tmp_path / "project") == "data/t.csv"


def test_a_path_that_leads_elsewhere_behind_a_link_is_absolute(tmp_path, monkeypatch):
    """The plan lies in a linked folder: "../t.csv" from there is not the file beside the link."""
    (tmp_path / "disk" / "plans").mkdir(parents=True)
    (tmp_path / "plans").symlink_to(tmp_path / "disk" / "plans")
    monkeypatch.chdir(tmp_path)
    written = place(Path("t.csv"), Path("plans"))
    assert (Path("plans") / written).resolve() == (tmp_path / "t.csv").resolve()
    assert written == (tmp_path / "t.csv").as_posix()


def test_plain_keeps_letters_of_all_scripts():
    assert plain("é\x00 日本\t\u202eb") == "é 日本 b"
