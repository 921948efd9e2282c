"""Fixtures for all tests: synthetic images on disk, plans for them, and the real packs where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

if "ROBUSTBENCH_RAD_TEST_DEVICE" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # known answers are those of a CPU; device = "auto" must not find another

import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from robustbench_rad.plan import Plan, make_plan

PACKS = Path(__file__).resolve().parents[2] / "shared" / "data"
torch.set_num_threads(1)


@pytest.fixture
def packs() -> Path:
    if not PACKS.is_dir():
        pytest.skip("the real input packs are not beside this checkout")
    return PACKS


@pytest.fixture
def write_image(tmp_path):
    """Write an array as PNG, TIFF or JPEG by suffix; returns the path."""

    def write(array, name="image.png", **options) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(array)).save(path, **options)
        return path

    return write


@pytest.fixture
def write_dicom(tmp_path):
    """Write a grey DICOM file; keyword arguments are attributes, None removes one."""

    def write(array, name="image.dcm", **attributes) -> Path:
        array = np.asarray(array)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        bits = 8 * array.dtype.itemsize
        defaults = {
            "SOPClassUID": meta.MediaStorageSOPClassUID,
            "SOPInstanceUID": generate_uid(),
            "SeriesInstanceUID": "1.2.3",
            "StudyInstanceUID": "1.2",
            "Modality": "DX",
            "PatientName": "Doe^Jane",
            "PatientBirthDate": "19500101",
            "PatientID": "secret-7",
            "PatientSex": "F",
            "PatientAge": "063Y",
            "Manufacturer": "Acme",
            "Rows": array.shape[-2],
            "Columns": array.shape[-1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": bits,
            "BitsStored": bits,
            "HighBit": attributes.get("BitsStored", bits) - 1,
            "PixelRepresentation": int(array.dtype.kind == "i"),
            "PixelData": array.tobytes(),
        }
        for key, value in {**defaults, **attributes}.items():
            if value is not None:
                setattr(dataset, key, value)
        if "PixelData" in dataset:
            dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def plan_for(tmp_path):
    """Make a plan for data below ``tmp_path`` (or ``base``)."""

    def make(data=None, *, findings=("effusion",), base=None, size=(8, 8), limits=(0.0, 1.0), **top) -> Plan:
        data = {"source": "manifest", "manifest": "test.csv", **(data or {})}
        ct = data.get("modality") == "CT"
        window = {"window_hu": [-1000, 400]} if ct else {"range": list(limits)}
        model = {
            "factory": "m:f",
            "head": "sigmoid",
            "findings": list(findings),
            "input": {"size": list(size), **window},
        }
        return make_plan({"model": model, "data": data, **top}, base=base or tmp_path)

    return make


@pytest.fixture
def small_set(tmp_path, write_image, plan_for):
    """Six 8×8 cases of four patients with masks and metadata; returns the plan."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    rows = ["image,who,label,view,mask"]
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 255
    write_image(mask, "mask.png")
    for index, plane in enumerate(pixels):
        write_image(plane, f"case{index}.png")
        rows.append(f"case{index}.png,p{index % 4},{['1', '0', ''][index % 3]},{'PA' if index % 2 else 'AP'},mask.png")
    (tmp_path / "test.csv").write_text("\n".join(rows) + "\n")
    return plan_for(
        {
            "patient": "who",
            "findings": {"effusion": "label"},
            "metadata": {"view": "nuisance"},
            "anatomy": {"column": "mask"},
        }
    )


MODEL = '''
"""A classifier as a user would bring it."""
import torch
from torch import nn


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1),
    )


def brightness() -> nn.Module:
    """Calls an image when its mean is above one half."""
    class Brightness(nn.Module):
        def forward(self, x):
            return 20 * (x.mean((1, 2, 3)) - 0.5)[:, None]
    return Brightness()


def random() -> nn.Module:
    """Another answer each time."""
    class Random(nn.Module):
        def forward(self, x):
            return 20 * (x.mean((1, 2, 3)) - 0.5)[:, None] + torch.randn(len(x), 1)
    return Random()


def slow() -> nn.Module:
    import time
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.05)
            return 20 * (x.mean((1, 2, 3)) - 0.5)[:, None]
    return Slow()


def nan() -> nn.Module:
    class Nan(nn.Module):
        def forward(self, x):
            return x.mean((1, 2, 3))[:, None] * float("nan")
    return Nan()


def wide() -> nn.Module:
    class Wide(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3]
    return Wide()
'''

PLAN = """
title = "A small audit"
profile = "profile.toml"
seed = 7

[model]
factory = "model.py:brightness"
head = "single-logit"
findings = ["bright"]
thresholds = { bright = 0.5 }
[model.input]
size = [16, 16]
range = [0.0, 1.0]

[data]
manifest = "cases.csv"
patient = "patient"
metadata = { scanner = "nuisance" }
anatomy = { column = "mask" }
findings = { bright = "label" }

[run]
chunk_size = 8
batch_size = 4
"""

PROFILE = """
name = "tiny"
version = 1
minimum_auroc = 0.6
[domains.clean]
[domains.adversarial]
[domains.acquisition-shift]
[domains.shortcut]
[checks."clean.performance"]
critical = true
[checks."attack.fgsm"]
epsilon = ["1/255", "4/255"]
[checks."attack.pgd-linf"]
epsilon = ["2/255"]
steps = 4
random_starts = 1
full_search = ["2/255"]
[checks."shift.xr.dose"]
levels = [0.5, 0.1]
[checks."shortcut.masked-anatomy"]
critical = true
[checks."shortcut.scanner-dependence"]
"""


@pytest.fixture
def workshop(tmp_path) -> Path:
    """A folder as a user would have it: model file, 36 films of 30 patients with masks, manifest, profile, plan."""
    rng = np.random.default_rng(5)
    lines = ["image,patient,label,scanner,mask"]
    (tmp_path / "images").mkdir()
    mask = np.zeros((20, 20), np.uint8)
    mask[4:16, 4:16] = 255
    Image.fromarray(mask).save(tmp_path / "images" / "mask.png")
    for index in range(36):
        label = index % 2
        plane = rng.normal(116, 5) + rng.normal(0, 20, (20, 20)) + 62 * label * (mask > 0)
        Image.fromarray(plane.clip(0, 255).astype(np.uint8)).save(tmp_path / "images" / f"{index}.png")
        lines.append(f"images/{index}.png,p{index % 30},{label},{'AB'[index // 2 % 2]},images/mask.png")
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "profile.toml").write_text(PROFILE)
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


@pytest.fixture
def edit(workshop):
    """Replace text in a file of the workshop; the text must be there."""

    def replace(old: str, new: str, name: str = "plan.toml") -> None:
        path = workshop / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new))

    return replace
