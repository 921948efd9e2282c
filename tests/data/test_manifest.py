import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robustbench_rad.cases import read_cases
from robustbench_rad.errors import DataError
from robustbench_rad.plan import make_plan

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.fixture
def manifest(tmp_path, write_image, plan_for):
    """Write a manifest and two images a.png and b.png; returns the plan."""

    def write(text, data=None, **options):
        for name in ("a.png", "b.png"):
            write_image(PIXELS, name)
        (tmp_path / "test.csv").write_text(text)
        return plan_for(data, **options)

    return write


def test_defaults(manifest):
    table = read_cases(manifest("image,effusion\na.png,1\nb.png,0\n"))
    assert table.case_ids == table.patients == ("a.png", "b.png")
    assert table.labels.tolist() == [[1.0], [0.0]]


def test_every_column(manifest):
    plan = manifest(
        "file,id,who,label,site,mm\na.png,c1,p,-1,x,0.2\nb.png,c2,p,,,\n",
        {
            "image": "file",
            "case": "id",
            "patient": "who",
            "findings": {"effusion": "label"},
            "uncertain": "positive",
            "metadata": {"site": "nuisance"},
            "spacing_mm": "mm",
        },
    )
    table = read_cases(plan)
    assert table.case_ids == ("c1", "c2")
    assert table.patient_codes.tolist() == [0, 0]
    assert table.labels[0, 0] == 1
    assert math.isnan(table.labels[1, 0])
    assert table.metadata("site") == ["x", ""]
    assert [table.load(i).spacing_mm for i in range(2)] == [(0.2, 0.2), None]


def test_one_spacing_for_all(manifest):
    plan = manifest("image,effusion\na.png,1\n", {"spacing_mm": 0.143})
    assert read_cases(plan).load(0).spacing_mm == (0.143, 0.143)


def test_root(tmp_path, manifest, write_image):
    write_image(PIXELS, "elsewhere/c.png")
    plan = manifest("image,effusion\nc.png,1\n", {"root": "elsewhere"})
    assert read_cases(plan).load(0).image.shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [
        ("image,effusion\na.png,2\n", {}, r"column 'effusion': expected labels 1, 0, -1 or empty, got line 2: '2'"),
        ("image,effusion\na.png,yes\nb.png,nan\n", {}, "line 2: 'yes', line 3: 'nan'"),
        ("image,Effusion\na.png,1\n", {}, "column 'effusion' .* is missing; the columns are: image, Effusion"),
        ("path,effusion\na.png,1\n", {}, r"column 'image' \(image file\) is missing"),
        ("image,effusion\na.png,1\na.png,0\n", {}, "duplicate case ids: a.png"),
        ("image,effusion\n,1\n", {}, r"column 'image' \(image file\) is empty in line 2"),
        ("image,effusion,who\na.png,1,\n", {"patient": "who"}, r"column 'who' \(patient\) is empty in line 2"),
        ("image,effusion\nc.png,1\na.png,1\n", {}, r"1 of 2 files are missing .*: 'c.png' \(line 2\)"),
        ("image,effusion,m\na.png,1,no.png\n", {"anatomy": {"column": "m"}}, "column 'm': 1 of 1 files are missing"),
        ("image,effusion,mm\na.png,1,wide\n", {"spacing_mm": "mm"}, "line 2, column 'mm': expected a spacing in mm"),
        ("image,effusion\na.png,1\n", {"metadata": {"sex": "demographic"}}, r"column 'sex' \(metadata\) is missing"),
        ("image,effusion\n", {}, "the manifest is empty"),
    ],
)
def test_bad_manifests(manifest, text, data, message):
    with pytest.raises(DataError, match=message):
        read_cases(manifest(text, data))


def test_many_missing_files_are_counted(manifest):
    text = "image,effusion\n" + "".join(f"x{i}.png,1\n" for i in range(12))
    with pytest.raises(DataError, match=r"12 of 12 files (.|\n)* and 7 more"):
        read_cases(manifest(text))


def test_a_mask_may_be_missing_for_a_case(manifest, write_image):
    write_image(np.full((8, 8), 255, np.uint8), "m.png")
    table = read_cases(manifest("image,effusion,m\na.png,1,m.png\nb.png,0,\n", {"anatomy": {"column": "m"}}))
    assert table.load(0).anatomy.all()
    assert table.load(1).anatomy is None


def test_spacing_of_volumes_is_never_declared(manifest):
    plan = manifest("image,effusion\na.png,1\n", {"spacing_mm": 1.0}, size=(4, 8, 8))
    with pytest.raises(DataError, match="spacing of volumes is read from their files"):
        read_cases(plan)


@pytest.fixture(scope="session")
def fuzz_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    Image.fromarray(PIXELS).save(folder / "a.png")
    return folder


CELLS = st.sampled_from(
    ["a.png", "b.png", "1", "0", "-1", "", "nan", "\x00", '"', "a,b", "é", "\n", "../a.png", "9" * 400]
)


@settings(max_examples=150, deadline=None)
@given(
    header=st.lists(st.sampled_from(["image", "effusion", "who", "", "x"]), max_size=4),
    rows=st.lists(st.lists(CELLS, max_size=4), max_size=4),
    raw=st.binary(max_size=20),
)
def test_any_manifest_reads_or_is_a_data_error(fuzz_folder, header, rows, raw):
    lines = [",".join(header), *(",".join(row) for row in rows)]
    (fuzz_folder / "test.csv").write_bytes("\n".join(lines).encode() + raw)
    model = {"factory": "m:f", "head": "sigmoid", "findings": ["effusion"], "input": {"size": [8, 8], "range": [0, 1]}}
    plan = make_plan({"model": model, "data": {"manifest": "test.csv"}}, base=fuzz_folder)
    try:
        table = read_cases(plan)
    except DataError:
        return
    assert len(table) > 0
    assert table.load(0).image.shape == (1, 8, 8)
