"""What every shift of projection radiography keeps: identity, refusal, invariance, tiny images, gradients."""

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, ImageError
from robustbench_rad.glyphs import Glyph, coverage, text_picture
from robustbench_rad.registry import catalogue, entry

IDS = [id for id in catalogue() if id.startswith("shift.xr.")]
FOLDER = TemporaryDirectory()
BANK = Path(FOLDER.name) / "laterals.npz"
np.savez(BANK, images=np.tile(np.linspace(0, 1, 20), (3, 30, 1)) * np.array([0.6, 0.8, 1.0])[:, None, None])
OPTIONS = {"shift.xr.view-error": {"bank": str(BANK)}}


def shift(id, **options):
    return entry(id).load().from_options({**OPTIONS.get(id, {}), **options})


def lungs(height, width):
    """Two lungs with a heart between them, as masks."""
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    left, right = (((rows + 0.2) / 0.6) ** 8 + ((columns - side) / 0.28) ** 8 < 1 for side in (-0.55, 0.55))
    return left | right


@pytest.fixture
def chest(physical_batch):
    """Three images like a chest with lung masks, a lesion, and some saturated pixels."""

    def make(height=48, width=40, spacing_mm=(1.45, 1.45), count=3):
        mask = lungs(height, width)
        generator = torch.Generator().manual_seed(3)
        noise = torch.rand(count, 1, height, width, generator=generator)
        images = 0.7 - 0.4 * mask.float() + 0.1 * noise
        images[..., :2, : width // 4] = 1.0
        images[..., -2:, : width // 4] = 0.0
        batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=spacing_mm)
        lesion = torch.zeros(count, 1, height, width, dtype=torch.bool)
        lesion[..., height // 2, width // 4] = True
        return replace(
            batch, anatomy=mask.expand(count, 1, -1, -1).clone(), lesion=lesion, lesion_known=(True,) * count
        )

    return make


def fit_for(id, chest):
    """The images, and for what alters markers larger and darker ones with a letter to find."""
    if id != "shift.xr.marker-fault":
        return chest()
    batch = chest(200, 160)
    glyph = Glyph(picture=text_picture("R"), height=1.0)
    ink = coverage(glyph, torch.tensor([[0.05, 0.94]]), torch.full((1, 2), 12.0), (200, 160))[0]
    return replace(batch, images=(0.5 * batch.images + 0.45 * ink).clamp(0, 1))


@pytest.fixture(params=IDS)
def id(request):
    return request.param


def test_signal_stays_in_range_and_the_input_is_untouched(id, chest, run):
    batch = fit_for(id, chest)
    before = batch.images.clone()
    variants, _ = run(shift(id), batch)
    assert torch.equal(batch.images, before)
    for variant in variants:
        assert variant.applicable is None or variant.applicable.all(), variant.reason
        assert variant.images.dtype == torch.float32
        assert 0.0 <= variant.images.min() <= variant.images.max() <= 1.0


def test_something_is_done_at_every_level(id, chest, run):
    batch = fit_for(id, chest)
    for variant in run(shift(id), batch)[0]:
        assert (variant.images != batch.images).flatten(1).any(1).all(), variant.level.name


def test_the_neutral_level_is_the_image_itself(id, chest, run):
    condition = shift(id)
    neutral = condition.neutral
    if neutral is None:
        pytest.skip("the neutral value depends on the options or the case; see the shift's own tests")
    batch = chest()
    (variant,), _ = run(shift(id, levels=[neutral]), batch)
    assert torch.equal(variant.images, batch.images)
    assert not any(variant.changed_attributes(len(batch)))


def test_a_case_does_not_depend_on_its_batch(id, chest, run):
    batch = chest()
    together, measured = run(shift(id), batch)
    for row in (2, 0):
        alone, again = run(shift(id), batch.select(torch.tensor([row])))
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one.images[0], many.images[row], rtol=0.0, atol=1e-6)
        for name, values in again.items():
            torch.testing.assert_close(values, measured[name][[row]], rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_level_does_not_depend_on_the_other_levels(id, chest, run):
    batch = chest()
    condition = shift(id)
    last = condition.levels[-1]
    (alone,), _ = run(replace(condition, levels=(last,)), batch)
    assert torch.equal(alone.images, run(condition, batch)[0][-1].images)


def test_without_spacing_the_answer_is_made_with_an_assumed_one_or_refused(id, chest, run):
    batch = replace(chest(), spacing_mm=None)
    for variant in run(shift(id), batch)[0]:
        assert variant.images.isfinite().all()
        assert variant.applicable is None or variant.applicable.all() or variant.reason


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3)])
def test_tiny_images_work(id, chest, run, shape):
    batch = chest()
    small = {name: getattr(batch, name)[..., : shape[0], : shape[1]] for name in ("images", "anatomy", "lesion")}
    for variant in run(shift(id), replace(batch, **small))[0]:
        assert variant.images.isfinite().all()
        assert len(variant.images) == len(batch)


def test_flat_and_saturated_images_stay_finite(id, chest, run):
    batch = chest()
    for value in (0.0, 0.5, 1.0):
        for variant in run(shift(id), replace(batch, images=torch.full_like(batch.images, value)))[0]:
            assert variant.images.isfinite().all()


def test_gradient_reaches_the_image(id, chest, run):
    batch = chest()
    images = batch.images.requires_grad_()
    variant = run(shift(id), batch)[0][0]
    if not variant.images.requires_grad:
        assert entry(id).kind == "categorical"
        return
    (gradient,) = torch.autograd.grad(variant.images.sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_wrong_domain_is_refused_by_name(id, chest):
    batch = chest()
    with pytest.raises(DataError, match=rf"{id}: expected images in signal .* got HU"):
        shift(id).apply(replace(batch, unit=Unit.HU), None, None)
    with pytest.raises(DataError, match="got no unit in display space"):
        shift(id).apply(replace(batch, unit=None, space=Space.DISPLAY), None, None)
    with pytest.raises(DataError, match=r"expected images of shape \(N, 1, H, W\)"):
        shift(id).apply(replace(batch, images=torch.zeros(3, 1, 2, 4, 4)), None, None)


@pytest.mark.parametrize(("value", "message"), [(math.nan, "finite pixels"), (1.2, r"signal in \[0, 1\]")])
def test_bad_pixels_name_the_case(id, chest, value, message):
    batch = chest()
    batch.images[1, 0, 3, 3] = value
    with pytest.raises(ImageError, match=rf"{message}.*: case-1$"):
        shift(id).apply(batch, None, None)
