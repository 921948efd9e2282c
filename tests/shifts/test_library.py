"""Transforms of the user's own: seeded from the case, checked, and nothing left behind."""

import random
import sys
import types

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts import _albumentations, _foreign
from robustbench_rad.shifts.library import LibraryTransform

SOURCE = """
import random
import numpy as np
import torch

def darker(image):
    return image * np.float32(0.5)

def noisy(image):
    python, torched = random.random(), torch.rand(1).item()
    return np.clip(image + 0.01 * np.random.randn(*image.shape) + 0.01 * python + 0.01 * torched, 0, 1)

_OWN = np.random.default_rng()

def unseeded(image):
    return np.clip(image + 0.01 * _OWN.standard_normal(image.shape), 0, 1)

def scaled_by(value):
    return lambda image: image * np.float32(value)

def halved(image):
    return image[::2]

def bytes_of(image):
    return (image * 255).astype(np.uint8)

def broken(image):
    return image / np.float32(0) * np.float32(0)

def beyond(image):
    return image + np.float32(1)

def unit_range(image):
    return (image - image.min()) / (image.max() - image.min())

def fails(image):
    raise RuntimeError("no such coil")

def in_place(image):
    image[:] = 0
    return image

number = 3

class Class:
    pass
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(SOURCE)

    def make(name, **options):
        return LibraryTransform(transform=f"own.py:{name}", folder=str(tmp_path), **options)

    return make


@pytest.fixture
def display(physical_batch):
    return physical_batch(
        torch.rand(4, 1, 12, 10, generator=torch.Generator().manual_seed(0)), unit=None, space=Space.DISPLAY
    )


@pytest.fixture
def ct(physical_batch):
    return physical_batch(-1000 + 1040 * torch.rand(2, 1, 12, 10), unit=Unit.HU, spacing_mm=(0.7, 0.7))


def test_a_function_is_called_with_each_image(own, display, run):
    (variant,), _ = run(own("darker"), display)
    assert torch.equal(variant.images, display.images * 0.5)
    assert variant.images.dtype == torch.float32


def test_levels_make_the_transform_from_their_values(own, display, run):
    shift = own("scaled_by", levels=(LibraryTransform.level(0.9), LibraryTransform.level(0.3)))
    variants, _ = run(shift, display)
    for variant, value in zip(variants, (0.9, 0.3), strict=True):
        torch.testing.assert_close(variant.images, display.images * value)


def test_draws_belong_to_the_case_and_global_generators_are_left_alone(own, display, run):
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    (whole,), _ = run(own("noisy"), display)
    (alone,), _ = run(own("noisy"), display.select(torch.tensor([2])))
    assert torch.equal(whole.images[2], alone.images[0])
    assert not torch.equal(whole.images[0] - display.images[0], whole.images[1] - display.images[1])
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_transform_that_draws_on_its_own_is_found_out(own, display, run):
    with pytest.raises(DataError, match="another answer when it was asked twice"):
        run(own("unseeded"), display)
    with pytest.raises(DataError, match="another answer"):
        run(own("noisy", seeded=False), display)


def test_the_images_given_are_not_changed(own, display, run):
    before = display.images.clone()
    run(own("in_place"), display)
    assert torch.equal(display.images, before)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("halved", DataError, r"case-0: expected floats of shape \(12, 10\) back, got float32 \(6, 10\)"),
        ("bytes_of", DataError, "got uint8"),
        ("broken", ImageError, "expected finite values back"),
        ("beyond", ImageError, r"expected values in \[0, 1\] back, got \[1"),
        ("fails", DataError, r"failed on case-0: RuntimeError: no such coil \(own.py, line"),
        ("number", PlanError, "is a int, expected a function"),
        ("Class", PlanError, "got the class Class"),
        ("darkest", PlanError, "has no 'darkest'"),
    ],
)
def test_what_is_no_image_of_the_same_kind_is_refused(own, display, run, name, kind, words):
    with np.errstate(all="ignore"), pytest.raises(kind, match=words):
        run(own(name), display)


def test_a_lost_range_of_hu_is_refused(own, ct, run):
    with pytest.raises(ImageError, match="expected HU back"):
        run(own("unit_range", images="physical"), ct)
    (variant,), _ = run(own("darker", images="physical"), ct)
    assert torch.equal(variant.images, ct.images * 0.5)


def test_images_of_another_space_are_refused(own, ct, display, run):
    with pytest.raises(DataError, match="expected windowed images"):
        run(own("darker"), ct)
    with pytest.raises(DataError, match="in physical space"):
        run(own("darker", images="physical"), display)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"library": "kornia"}, "library: expected one of auto, albumentations"),
        ({"images": "stored"}, "images: expected one of display, physical"),
        ({"seeded": "yes"}, "seeded: expected true or false"),
        ({"library": "albumentations", "images": "physical"}, "which clips physical values"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, words):
    with pytest.raises(PlanError, match=words):
        LibraryTransform.from_options({"transform": "numpy:flipud", **options})


def test_a_plan_that_names_no_transform_says_so(display, run):
    with pytest.raises(PlanError, match="names no transform"):
        run(LibraryTransform(), display)
    with pytest.raises(PlanError, match="no such file"):
        run(LibraryTransform(transform="nowhere.py:shift"), display)


def test_the_file_of_the_transform_is_part_of_the_identity(own, tmp_path):
    before = own("darker").reads_sha256
    (tmp_path / "own.py").write_text(SOURCE + "\n# changed\n")
    assert len(before) == 64
    assert own("darker").reads_sha256 != before
    assert len(LibraryTransform(transform="numpy:flipud").reads_sha256) == 64


@pytest.fixture
def albumentations_file(tmp_path):
    (tmp_path / "pictures.py").write_text(
        "import albumentations as A\n"
        "noise = A.Compose([A.GaussNoise(std_range=(0.05, 0.1), p=1), A.HorizontalFlip(p=0.5)])\n"
        "blur = A.GaussianBlur(p=1)\n"
    )
    return tmp_path


@pytest.mark.parametrize("name", ["noise", "blur"])
def test_albumentations_is_seeded_from_the_case(albumentations_file, display, run, name):
    shift = LibraryTransform(transform=f"pictures.py:{name}", folder=str(albumentations_file))
    (whole,), _ = run(shift, display)
    (alone,), _ = run(shift, display.select(torch.tensor([3])))
    assert torch.equal(whole.images[3], alone.images[0])
    assert not torch.equal(whole.images, display.images)


def test_albumentations_is_never_given_hu(albumentations_file, ct, run):
    shift = LibraryTransform(transform="pictures.py:blur", folder=str(albumentations_file), images="physical")
    with pytest.raises(DataError, match=r"clips what lies outside \[0, 1\] without a word, and the images are in HU"):
        run(shift, ct)


def test_albumentations_x_is_refused(albumentations_file, display, run, monkeypatch):
    monkeypatch.setattr(_albumentations, "packages_distributions", lambda: {"albumentations": ["albumentationsx"]})
    with pytest.raises(PlanError, match="AlbumentationsX"):
        run(LibraryTransform(transform="pictures.py:blur", folder=str(albumentations_file)), display)


def test_torchio_is_given_a_subject_in_its_own_order_with_the_spacing(monkeypatch, physical_batch, run):
    """A stand-in that keeps TorchIO's contract: (C, W, H, D) tensors and an affine."""
    seen = {}

    class ScalarImage:
        def __init__(self, tensor, affine):
            self.data, self.affine = tensor, affine

    class Flip:
        """Along the first spatial axis: left and right."""

        def __call__(self, subject):
            seen["affine"], seen["shape"] = subject["image"].affine, tuple(subject["image"].data.shape)
            return {"image": ScalarImage(subject["image"].data.flip(1), None)}

    Flip.__module__ = "torchio.transforms"
    fake = types.ModuleType("torchio")
    fake.Subject, fake.ScalarImage = dict, ScalarImage
    holder = types.ModuleType("own_torchio")
    holder.flip = Flip()
    monkeypatch.setitem(sys.modules, "torchio", fake)
    monkeypatch.setitem(sys.modules, "own_torchio", holder)
    volume = torch.rand(2, 1, 3, 5, 4)
    batch = physical_batch(volume, unit=Unit.MAGNITUDE, spacing_mm=(3.0, 0.7, 0.5))
    (variant,), _ = run(LibraryTransform(transform="own_torchio:flip", images="physical"), batch)
    assert torch.equal(variant.images, volume.flip(-1))
    assert seen["shape"] == (1, 4, 5, 3)
    np.testing.assert_allclose(np.diag(seen["affine"]), [0.5, 0.7, 3.0, 1.0], rtol=1e-6)


def test_the_library_is_told_by_the_class():
    class Own:
        pass

    Own.__module__ = "monai.transforms.intensity.array"
    assert _foreign.library_of(Own()) == "monai"
    assert _foreign.library_of(len) == "function"
