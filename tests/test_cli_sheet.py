"""sheet on the command line: what is drawn, what is printed under it, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from robustbench_rad.cli import app
from robustbench_rad.conditions import Unit
from robustbench_rad.data.single import SingleImage, read_single
from robustbench_rad.sheet import make_sheet, shift_of


@pytest.fixture
def call(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(app, ["sheet", *map(str, arguments)])

    return run


@pytest.fixture
def film(tmp_path):
    rows, columns = np.mgrid[:64, :48]
    grey = 120 + 60 * np.sin(rows / 9) * np.cos(columns / 7) + np.random.default_rng(0).standard_normal((64, 48))
    path = tmp_path / "film.png"
    Image.fromarray(grey.round().astype(np.uint8)).save(path)
    return path


def volume(tmp_path, depth=4):
    slices = np.full((depth, 32, 32), 40.0, np.float32)
    slices[:, :, :8] = -1000
    return SingleImage(
        path=tmp_path / "volume.nii",
        pixels=slices,
        stored=slices,
        unit=Unit.HU,
        modality="CT",
        stored_bits=12,
        spacing_mm=(5.0, 1.0, 1.0),
    )


def test_every_level_is_drawn_with_its_physical_value(call, film, tmp_path):
    done = call("shift.xr.dose", film, "--levels", "1, 0.5, 1/10", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert [row["level"] for row in said["levels"]] == [f"{v} of the exposure" for v in ("1", "0.5", "1/10")]
    assert said["levels"][1]["said"][0].startswith("added noise SD ")
    assert "(asked " in said["levels"][1]["said"][0]
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size[0] == 4 * 330  # original and three levels, 2.2 inches of 150 dots each


def test_the_same_sheet_gives_the_same_file(call, film, tmp_path):
    for name in ("one.png", "two.png"):
        assert call("shift.xr.dose", film, "--levels", "0.5", "--out", name).exit_code == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_frames_are_the_levels_and_their_differences(film):
    sheet = make_sheet(read_single(film), shift_of("shift.xr.dose", {"levels": [1, 0.1]}))
    original, same, noisy = sheet.frames
    assert original.difference is None
    assert np.array_equal(same.image, original.image)
    assert not same.difference.any()
    np.testing.assert_allclose(noisy.image - original.image, noisy.difference, atol=1e-12)
    assert sheet.largest_difference == pytest.approx(np.quantile(np.abs(noisy.difference), 0.995))
    assert all(0 <= share <= 1 for share in sheet.zoom)


def test_the_middle_slice_of_a_volume_is_shown_in_the_window(tmp_path):
    sheet = make_sheet(volume(tmp_path), shift_of("shift.ct.kernel", {"levels": [0.5]}), window=(-1000.0, 40.0))
    assert sheet.frames[0].image.shape == (32, 32)
    assert set(np.unique(sheet.frames[0].image)) == {0.0, 1.0}
    assert sheet.unit == "HU"


def test_a_shift_of_display_space_is_given_the_windowed_image(call, film):
    done = call("shift.export.jpeg", film, "--levels", "q50,q10", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["unit"] == "of the display range"


def test_a_level_without_meaning_says_why(call, film):
    """No spacing, so no kernel; a film is no CT either."""
    done = call("shift.mr.snr", film)
    assert done.exit_code == 2
    assert "expected images in magnitude" in done.output


def test_no_level_with_a_meaning_is_inconclusive(tmp_path, call):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "thick.nii"
    slices = np.full((32, 32, 1), 40.0, np.float32)
    nibabel.save(nibabel.Nifti1Image(slices, np.diag([0.5, 1.5, 5.0, 1.0])), path)
    done = call("shift.ct.kernel", path, "--unit", "HU", "--levels", "0.5")
    assert done.exit_code == 3, done.output
    assert "pixels are not square" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shift.ct.dosis", "{film}"], "unknown check"),
        (["attack.fgsm", "{film}"], "expected a shift, got a condition of the domain adversarial"),
        (["shortcut.masked-anatomy", "{film}"], "learns from a whole data set"),
        (["shift.ct.dose", "{film}"], "shift.ct.dose: expected images in HU"),
        (["shift.xr.dose", "no.png"], "no such file"),
        (["shift.xr.dose", "{film}", "--levels", "2"], "expected a dose fraction"),
        (["shift.xr.dose", "{film}", "--set", "dqe"], "--set: expected name=value"),
        (["shift.xr.dose", "{film}", "--set", "dge=0.5"], "unknown option 'dge'"),
        (["shift.xr.dose", "{film}", "--window", "1,0"], "--window: expected the lower value first"),
        (["shift.xr.dose", "{film}", "--zoom", "9,0"], "--zoom: expected shares"),
        (["shift.xr.dose", "{film}", "--zoom", "half"], "--zoom: expected two numbers"),
        (["shift.xr.dose", "{film}", "--slice", "0"], "expected a volume to take a slice of"),
        (["shift.xr.dose", "{film}", "--out", "sheet.gif"], "expected a file ending in .png"),
        (["shift.xr.dose", "{film}", "--out", "no/such/folder/sheet.png"], "cannot be written"),
    ],
)
def test_bad_input_is_named(call, film, arguments, words):
    done = call(*(argument.format(film=film) for argument in arguments))
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.output.split())
    assert "Traceback" not in done.output
