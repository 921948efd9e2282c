"""measure on the command line: what it says of a file, and what it says of one it cannot read."""

import json

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

from robustbench_rad.cli import app

nibabel = pytest.importorskip("nibabel")


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments):
        return CliRunner().invoke(app, ["measure", *map(str, arguments)])

    return run


@pytest.fixture
def radiograph(tmp_path):
    noise = 4.0 * np.random.default_rng(0).standard_normal((256, 256))
    path = tmp_path / "film.png"
    Image.fromarray((120 + noise).clip(0, 255).round().astype(np.uint8)).save(path)
    return path


@pytest.fixture
def ct(tmp_path):
    """A water disc of 12 HU noise in air."""
    rows, columns = np.mgrid[:256, :256] - 128
    noise = 12.0 * np.random.default_rng(0).standard_normal((256, 256))
    pixels = np.where(np.hypot(rows, columns) < 110, 40 + noise, -1000).round() + 1024
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    header.Modality, header.PhotometricInterpretation = "CT", "MONOCHROME2"
    header.Rows = header.Columns = 256
    header.SamplesPerPixel, header.PixelRepresentation = 1, 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.RescaleSlope, header.RescaleIntercept, header.PixelSpacing = 1, -1024, [0.7, 0.7]
    header.PixelData = pixels.astype(np.uint16).tobytes()
    path = tmp_path / "slice.dcm"
    header.save_as(path, enforce_file_format=True)
    return path


def measured(done):
    (image,) = json.loads(done.stdout)["images"]
    return image, {(row["quantity"], row["unit"]): row for row in image["measured"]}


def test_a_ct_slice_says_its_noise_in_hu(call, ct):
    done = call(ct, "--json")
    assert done.exit_code == 0, done.output
    image, rows = measured(done)
    noise = rows["native noise", "HU"]
    assert noise["value"] == pytest.approx(12.0, rel=0.02)
    assert noise["lower"] < 12.0 < noise["upper"]
    assert image["spacing_mm"] == [0.7, 0.7]
    assert image["stored_bits"] == 12
    assert image["bits_in_use"] == 7
    assert ("non-uniformity", "%") not in rows


def test_a_radiograph_says_its_noise_in_grey_levels_and_what_it_has_not(call, radiograph):
    done = call(radiograph)
    assert done.exit_code == 0, done.output
    _, rows = measured(call(radiograph, "--json"))
    assert rows["native noise", "grey levels"]["value"] == pytest.approx(4.0, rel=0.02)
    assert rows["native noise", "% of the range"]["value"] == pytest.approx(400 / 255, rel=0.02)
    assert "grey levels" in done.stdout
    assert "white noise" in done.stdout
    assert "not measurable: found 0 clean edges between two flat sides; at least 5 are needed" in done.stdout
    assert "unknown" in done.stdout


def test_a_given_spacing_gives_frequencies_per_mm(call, radiograph):
    image, _ = measured(call(radiograph, "--spacing-mm", 0.2, "--json"))
    assert image["spacing_mm"] == [0.2, 0.2]


def test_an_mr_volume_says_non_uniformity_and_ghosts(call, tmp_path):
    axis = np.linspace(-1, 1, 48)
    field = np.exp(0.2 * axis[:, None, None]) * np.ones((48, 48, 12))
    inside = np.hypot(axis[:, None], axis)[:, :, None] < 0.6
    noise = np.random.default_rng(0).standard_normal(field.shape)
    path = tmp_path / "head.nii.gz"
    values = (100 * field * inside + np.abs(noise)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    assert "--unit magnitude" in call(path).output
    image, rows = measured(call(path, "--unit", "magnitude", "--json"))
    assert image["size"] == [12, 48, 48]
    assert image["spacing_mm"] == [3.0, 1.0, 1.0]
    assert image["bits_in_use"] is None
    assert rows["non-uniformity", "%"]["value"] == pytest.approx(100 * 2 * np.sinh(0.2 * 0.6), abs=2)
    assert rows["ghost ratio", "% of tissue"]["value"] == pytest.approx(0, abs=0.3)
    assert rows["signal-to-noise ratio", ""]["value"] > 50


def test_one_image_that_cannot_be_read_does_not_take_the_others_with_it(call, radiograph, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(radiograph.read_bytes()[:200])
    done = call(broken, radiograph, "--json")
    assert done.exit_code == 2
    first, second = json.loads(done.stdout)["images"]
    assert "cannot be decoded" in first["error"]["message"]
    assert second["measured"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such.png"], "no such file"),
        (["."], "is a folder"),
        (["{film}", "--unit", "HU"], "relation to HU is lost"),
        (["{film}", "--unit", "hounsfeld"], "--unit: expected one of HU, signal, magnitude"),
        (["{film}", "--spacing-mm", "-1"], "--spacing-mm: expected millimetres above 0"),
        (["{film}", "--spacing-mm", "nan"], "--spacing-mm: expected millimetres above 0"),
        (["{ct}", "--unit", "signal"], "expected signal, as given, got HU: the file is CT"),
        (["{text}"], "unknown kind of image"),
    ],
)
def test_bad_input_is_named(call, radiograph, ct, tmp_path, arguments, words):
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    done = call(*(argument.format(film=radiograph, ct=ct, text=text) for argument in arguments))
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_one_pixel_is_measured_as_far_as_it_goes(call, tmp_path):
    path = tmp_path / "dot.png"
    Image.fromarray(np.full((1, 1), 9, np.uint8)).save(path)
    done = call(path, "--json")
    assert done.exit_code == 0, done.output
    assert all(row["value"] is None and row["reason"] for row in json.loads(done.stdout)["images"][0]["measured"])
