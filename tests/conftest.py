"""Fixtures for all tests: synthetic images on disk, plans for them, and the real packs where they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

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
