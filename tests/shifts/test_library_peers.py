"""Real transforms of TorchIO and MONAI as shifts: seeded from the case, whatever the batch, and nothing left behind.

They run where the libraries are installed: ``pip install torchio monai``.
"""

import random

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, ImageError
from robustbench_rad.shifts.library import LibraryTransform

WHY = "the transform's library is not installed"

TORCHIO = """
import torch
import torchio as tio

def within(*parts):
    return tio.Compose([*parts, tio.Clamp(0, 1)])

def magnitude(*parts):
    return tio.Compose([*parts, tio.Lambda(torch.abs)])

ghosting = within(tio.RandomGhosting())
bias = within(tio.RandomBiasField())
motion = within(tio.RandomMotion())
noise = within(tio.RandomNoise(std=(0.01, 0.05)))
either = tio.OneOf({tio.RandomBlur(): 0.5, tio.RandomGamma(): 0.5})
ghosting_3d = magnitude(tio.RandomGhosting())
motion_3d = magnitude(tio.RandomMotion())
bias_3d = tio.RandomBiasField()
anisotropy_3d = tio.RandomAnisotropy()
elastic_3d = tio.RandomElasticDeformation(max_displacement=1.0)
raw_motion = tio.RandomMotion()
raw_bias = tio.RandomBiasField(coefficients=(0.4, 0.5))
rescaled = tio.RescaleIntensity(out_min_max=(0, 1))
scored = tio.ZNormalization()
coarser = tio.Resample(2.0)
never = tio.RandomBlur(p=0)

def noise_of(value):
    return within(tio.RandomNoise(std=(value, value)))

def flipped():
    return tio.RandomFlip(axes=(0,), flip_probability=1.0)

left_right = flipped()
"""

MONAI = """
import monai.transforms as mt

def within(*parts):
    return mt.Compose([*parts, mt.Lambda(lambda image: image.clip(0, 1))])

noise = within(mt.RandGaussianNoise(prob=1.0, std=0.05))
bias = within(mt.RandBiasField(prob=1.0))
warp = mt.Rand2DElastic(spacing=(10, 10), magnitude_range=(1, 2), prob=1.0, padding_mode="border")
either = mt.OneOf([mt.RandGaussianSmooth(prob=1.0), mt.RandAdjustContrast(prob=1.0)])
noised = mt.Compose(
    [mt.RandGaussianNoised(keys="image", prob=1.0, std=0.05), mt.Lambdad(keys="image", func=lambda image: image.clip(0, 1))]
)
turned = mt.RandAffined(keys=["image", "label"], prob=1.0, rotate_range=(0.1,), padding_mode="border")
turned_scan = mt.RandAffined(keys="scan", prob=1.0, rotate_range=(0.1,), padding_mode="border")
nameless = mt.RandAffined(keys=["t1", "t2"], prob=1.0, rotate_range=(0.1,))
rician_3d = mt.RandRicianNoise(prob=1.0, std=0.05)
bias_3d = mt.RandBiasField(prob=1.0)
elastic_3d = mt.Rand3DElastic(sigma_range=(1, 2), magnitude_range=(1, 2), prob=1.0, padding_mode="border")
gibbs_3d = mt.Compose([mt.RandGibbsNoise(prob=1.0, alpha=(0.4, 0.6)), mt.Lambda(abs)])
raw_gibbs = mt.RandGibbsNoise(prob=1.0, alpha=(0.7, 0.8))
scored = mt.NormalizeIntensity()
rescaled = mt.ScaleIntensity()
coarser = mt.Zoom(0.5, keep_size=False)
plane_of_two = mt.Compose([mt.Rand2DElastic(spacing=(10, 10), magnitude_range=(1, 2), prob=1.0)])
never = mt.RandGaussianNoise(prob=0.0)
byte = mt.CastToType("uint8")

def noise_of(value):
    return within(mt.RandGaussianNoise(prob=1.0, std=value, sample_std=False))
"""

SOURCES = {"torchio": TORCHIO, "monai": MONAI}
PLANES = [
    *(("torchio", name) for name in ("ghosting", "bias", "motion", "noise", "either")),
    *(("monai", name) for name in ("noise", "bias", "warp", "either", "noised", "turned", "turned_scan")),
]
VOLUMES = [
    *(("torchio", name) for name in ("ghosting_3d", "motion_3d", "bias_3d", "anisotropy_3d", "elastic_3d")),
    *(("monai", name) for name in ("rician_3d", "bias_3d", "elastic_3d", "gibbs_3d", "turned")),
]


@pytest.fixture
def own(tmp_path):
    """A shift from the named object of a library's file, where the library is installed."""

    def make(library, name, **options):
        pytest.importorskip(library, reason=WHY)
        (tmp_path / f"{library}_shifts.py").write_text(SOURCES[library])
        return LibraryTransform(transform=f"{library}_shifts.py:{name}", folder=str(tmp_path), **options)

    return make


def head(cases, *shape):
    """Smooth bright ellipsoids on air with structure of their own, in [0, 1]."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij")
    inside = (sum((axis / 0.8) ** 2 for axis in axes) < 1).float()
    own = [0.2 * torch.sin(3 * axes[-1] * (case + 1)) + 0.1 * axes[-2] for case in range(cases)]
    return torch.stack([inside * (0.6 + pattern) for pattern in own])[:, None]


@pytest.fixture
def radiographs(physical_batch):
    return physical_batch(head(3, 40, 36), unit=None, space=Space.DISPLAY)


@pytest.fixture
def magnitudes(physical_batch):
    return physical_batch(head(2, 14, 20, 18), unit=Unit.MAGNITUDE, spacing_mm=(1.2, 0.9, 0.9))


@pytest.fixture
def ct(physical_batch):
    return physical_batch(-1000 + 1040 * head(2, 20, 18), unit=Unit.HU, spacing_mm=(0.7, 0.7))


def generators():
    return random.getstate(), tuple(np.random.get_state()[1]), tuple(torch.get_rng_state().tolist())


def assert_belongs_to_the_case(shift, batch, run):
    """Changed, the same in another order and alone, float32 of the same shape, with the global generators as they were."""
    before, source = generators(), batch.images.clone()
    (whole,), measured = run(shift, batch)
    backwards = torch.arange(len(batch)).flip(0)
    (reversed_,), _ = run(shift, batch.select(backwards))
    (alone,), _ = run(shift, batch.select(torch.tensor([1])))
    assert torch.equal(reversed_.images.flip(0), whole.images)
    assert torch.equal(alone.images[0], whole.images[1])
    assert whole.images.shape == batch.images.shape
    assert whole.images.dtype == torch.float32
    assert type(whole.images) is torch.Tensor
    assert generators() == before
    assert torch.equal(batch.images, source)
    ((_, change),) = measured.items()
    assert (change > 0).all()


@pytest.mark.parametrize(("library", "name"), PLANES)
def test_transforms_of_radiographs_belong_to_the_case(own, radiographs, run, library, name):
    assert_belongs_to_the_case(own(library, name), radiographs, run)


@pytest.mark.filterwarnings("ignore:The maximum displacement")  # TorchIO on a coarse grid
@pytest.mark.parametrize(("library", "name"), VOLUMES)
def test_transforms_of_magnitude_volumes_belong_to_the_case(own, magnitudes, run, library, name):
    assert_belongs_to_the_case(own(library, name, images="physical"), magnitudes, run)


@pytest.mark.parametrize("library", SOURCES)
def test_two_cases_of_the_same_pixels_draw_differently(own, physical_batch, run, library):
    same = head(1, 20, 18).expand(2, -1, -1, -1).contiguous()
    (variant,), _ = run(own(library, "noise"), physical_batch(same, unit=None, space=Space.DISPLAY))
    assert not torch.equal(variant.images[0], variant.images[1])


@pytest.mark.parametrize("library", SOURCES)
def test_levels_make_the_transform_and_level_zero_changes_nothing(own, radiographs, run, library):
    levels = tuple(LibraryTransform.level(value) for value in (0.0, 0.02, 0.08))
    variants, measured = run(own(library, "noise_of", levels=levels), radiographs)
    torch.testing.assert_close(variants[0].images, radiographs.images, rtol=0, atol=1e-6)
    none, mild, strong = (measured["rms_change", level.name] for level in levels)
    assert none.max() < 1e-6
    assert (mild > 0.01).all()
    assert (strong > mild).all()


@pytest.mark.parametrize("library", SOURCES)
def test_what_was_not_drawn_shows_as_no_change(own, radiographs, run, library):
    (variant,), measured = run(own(library, "never"), radiographs)
    assert torch.equal(variant.images, radiographs.images)
    assert measured["rms_change", "as given"].tolist() == [0.0, 0.0, 0.0]


def test_torchio_knows_a_plane_from_a_volume_and_left_from_right(own, radiographs, magnitudes, run):
    (plane,), _ = run(own("torchio", "left_right"), radiographs)
    assert torch.equal(plane.images, radiographs.images.flip(-1))
    (volume,), _ = run(own("torchio", "left_right", images="physical"), magnitudes)
    assert torch.equal(volume.images, magnitudes.images.flip(-1))


@pytest.mark.parametrize(
    ("library", "name", "kind", "words"),
    [
        ("torchio", "raw_bias", ImageError, r"expected values in \[0, 1\] back, got \[0, \d\.\d+\]"),
        ("torchio", "scored", ImageError, r"expected values in \[0, 1\] back, got \[-"),
        ("torchio", "coarser", DataError, r"expected floats of shape \(40, 36\) back, got float32 \(20, 18\)"),
        ("monai", "scored", ImageError, r"expected values in \[0, 1\] back, got \[-"),
        ("monai", "coarser", DataError, r"expected floats of shape \(40, 36\) back, got float32 \(20, 18\)"),
        ("monai", "byte", DataError, r"got uint8 \(40, 36\)"),
        ("monai", "nameless", DataError, "of several with 'image' among them, got t1, t2"),
    ],
)
def test_what_is_no_radiograph_is_refused(own, radiographs, run, library, name, kind, words):
    with pytest.raises(kind, match=words):
        run(own(library, name), radiographs)


@pytest.mark.parametrize(("library", "name"), [("torchio", "raw_motion"), ("monai", "raw_gibbs"), ("monai", "scored")])
def test_negative_magnitude_is_refused(own, magnitudes, run, library, name):
    with pytest.raises(ImageError, match=r"expected a magnitude back, got -0\.\d+, below 0"):
        run(own(library, name, images="physical"), magnitudes)


@pytest.mark.parametrize(("library", "name"), [(one, name) for one in SOURCES for name in ("rescaled", "scored")])
def test_hu_that_were_normalised_are_refused(own, ct, run, library, name):
    with pytest.raises(ImageError, match=r"expected HU back, got values in \[.*\]: the range was lost"):
        run(own(library, name, images="physical"), ct)


def test_the_error_of_a_part_is_shown_not_what_the_composition_says_of_it(own, magnitudes, run):
    with pytest.raises(DataError, match=r"failed on case-0: ValueError: Sequence must have length 3, got 2"):
        run(own("monai", "plane_of_two", images="physical"), magnitudes)


@pytest.mark.parametrize("library", SOURCES)
def test_magnitude_is_given_from_its_own_zero(own, physical_batch, run, library):
    """A gain on magnitude whose zero is not 0 is one on the signal: the air, without signal, stays as it is."""
    batch = physical_batch(head(2, 14, 20, 18) - 0.25, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0, 1.0))
    shifted = type(batch)(**{**vars(batch), "zero_signal": torch.full((2,), -0.25)})
    (variant,), _ = run(own(library, "bias_3d", images="physical"), shifted)
    air = batch.images == -0.25
    assert torch.equal(variant.images[air], batch.images[air])
    assert not torch.equal(variant.images, batch.images)
