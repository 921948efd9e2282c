"""Providers of anatomy masks: named, imported, checked; and torchxrayvision's network through a stand-in."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from robustbench_rad import anatomy_torchxrayvision
from robustbench_rad.anatomy_providers import NamedProvider, import_string
from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, MissingExtraError
from robustbench_rad.masks import hull_mask

IMAGE = torch.zeros(1, 32, 32)
IMAGE[:, 8:24, 10:20] = 0.7

OWN = """
import torch
def half(image, *, unit, spacing_mm):
    mask = torch.zeros_like(image, dtype=torch.bool)
    mask[..., : image.shape[-1] // 2] = True
    return mask
def wrong(image, *, unit, spacing_mm):
    return image[0] > 0.5
def grey(image, *, unit, spacing_mm):
    return image
def broken(image, *, unit, spacing_mm):
    raise RuntimeError("no weights")
"""


def mask(name, base=Path()):
    provider = NamedProvider(name=name, base=base)
    return provider.mask(IMAGE, unit=Unit.SIGNAL, spacing_mm=None, reference="a.png")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own.py").write_text(OWN, "utf-8")
    return tmp_path


def test_the_hull_is_a_provider():
    assert torch.equal(mask("hull"), hull_mask(IMAGE, Unit.SIGNAL))


def test_a_function_of_the_users_own_is_a_provider(folder):
    found = mask("own.py:half", folder)
    assert found[..., :16].all()
    assert not found[..., 16:].any()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "own.py:wrong",
            r"a\.png: expected a boolean tensor .* \(1, 32, 32\), got torch.bool \(32, 32\)",
        ),
        ("own.py:grey", "got torch.float32"),
        ("own.py:broken", "RuntimeError: no weights"),
        ("own.py:absent", "has no 'absent'"),
        ("hul", "no such provider"),
    ],
)
def test_what_is_no_provider_is_refused_by_name(folder, name, said):
    with pytest.raises(DataError, match=said):
        mask(name, folder)


def test_a_misspelt_name_is_refused_with_the_nearest():
    with pytest.raises(DataError) as caught:
        import_string("torchxrayvison")
    assert "torchxrayvision" in caught.value.hint


@pytest.fixture
def network(monkeypatch, tmp_path):
    """A stand-in for torchxrayvision: what is brighter than the middle of the range is lung."""

    class PSPNet:
        targets = ("Spine", "Left Lung", "Right Lung", "Heart")

        def eval(self):
            return self

        def __call__(self, images):
            assert images.shape == (1, 1, 512, 512)
            assert images.min() >= -1024.1
            assert images.max() <= 1024.1
            return torch.cat([torch.full_like(images, 9.0), images, images - 3000, images - 3000], dim=1)

    module = ModuleType("torchxrayvision.baseline_models.chestx_det")
    module.PSPNet = PSPNet
    for name in ("torchxrayvision", "torchxrayvision.baseline_models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    weights = tmp_path / "weights.pth"
    monkeypatch.setattr(anatomy_torchxrayvision, "WEIGHTS", weights)
    anatomy_torchxrayvision._network.cache_clear()
    yield SimpleNamespace(weights=weights)
    anatomy_torchxrayvision._network.cache_clear()


def test_lungs_and_heart_of_a_radiograph(network):
    network.weights.write_bytes(b"")
    found = mask("torchxrayvision")
    assert found[:, 10:22, 12:18].all()
    assert not found[:, :6].any()
    flat = NamedProvider(name="torchxrayvision", base=Path())
    assert not flat.mask(torch.full((1, 8, 8), 0.5), unit=Unit.SIGNAL, spacing_mm=None, reference="b").any()


def test_weights_that_were_not_downloaded_are_said_and_not_fetched(network):
    with pytest.raises(DataError, match="no weights at"):
        mask("torchxrayvision")


def test_ct_is_refused(network):
    provider = NamedProvider(name="torchxrayvision", base=Path())
    with pytest.raises(DataError, match="frontal chest radiographs, got HU"):
        provider.mask(IMAGE, unit=Unit.HU, spacing_mm=None, reference="c")


def test_without_the_package_the_line_to_type_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    anatomy_torchxrayvision._network.cache_clear()
    with pytest.raises(MissingExtraError) as caught:
        mask("torchxrayvision")
    assert caught.value.hint == "pip install torchxrayvision"
