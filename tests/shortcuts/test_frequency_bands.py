"""Frequency bands: what a wave keeps, in which unit, without ringing; and which levels a case has."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts._image_numbers import image_numbers
from robustbench_rad.shortcuts.frequency_bands import FrequencyBands, low_pass
from robustbench_rad.statistics.metadata_ceiling import metadata_auc
from robustbench_rad.statistics.probe import prepare, told


def cases(shape=(40, 48), n=3, spacing=None) -> Batch:
    names = tuple(f"case-{row}" for row in range(n))
    return Batch(
        images=0.4 + 0.2 * torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0)),
        labels=torch.zeros(n, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
        spacing_mm=spacing,
    )


@pytest.mark.parametrize("axis", [2, 3, 4])
@pytest.mark.parametrize("millimetres", [1.0, 2.5])
def test_half_of_a_wave_of_the_cutoff_frequency_is_left(axis, millimetres):
    shape = [6, 6, 6]
    shape[axis - 2] = 80
    # A cosine of whole half waves goes on in its mirror image without a break
    index = torch.arange(80) + 0.5
    cycles_per_px = 8 / 80
    wave = torch.cos(2 * math.pi * cycles_per_px * index).view([80 if a == axis else 1 for a in range(5)])
    images = 0.5 + 0.3 * wave.expand(1, 1, *shape)
    spacing = torch.full((1, 3), millimetres)
    found = low_pass(images, spacing, cycles_per_px / millimetres)
    torch.testing.assert_close(found, 0.5 + 0.15 * wave.expand(1, 1, *shape), rtol=0, atol=1e-5)


def test_an_edge_is_softened_without_ringing_and_the_border_is_no_edge():
    images = torch.zeros(1, 1, 64, 64)
    images[..., 32:] = 1.0
    found = low_pass(images, torch.ones(1, 2), 0.08)
    assert found.min() > -1e-5
    assert found.max() < 1 + 1e-5
    assert (found[0, 0, 5].diff() > -1e-6).all()  # rises throughout
    assert found[..., 0].max() < 1e-3  # the bright right side does not come round to the left


def test_low_and_high_pass_add_up_and_both_keep_the_mean():
    batch = cases()
    names = [f"{kind} 0.13 cycles/px" for kind in ("low-pass", "high-pass")]
    low, high = (v.images for v in FrequencyBands.from_options({"levels": names}).apply(batch, None, None).variants)
    mean = batch.images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(low + high - mean, batch.images, rtol=0, atol=1e-6)
    for images in (low, high):
        torch.testing.assert_close(images.mean((1, 2, 3), keepdim=True), mean, rtol=0, atol=1e-6)


def test_known_spacing_is_filtered_per_mm_and_unknown_per_pixel():
    spacing = torch.tensor([[1.0, 1.0], [2.0, 2.0], [math.nan, math.nan]])
    batch, condition = cases(spacing=spacing), FrequencyBands()
    for variant in condition.apply(batch, None, None).variants:
        per_mm = variant.level.name.endswith("/mm")
        assert variant.applicable.tolist() == ([True, True, False] if per_mm else [False, False, True])
        assert "instead" in variant.reason
    assert condition.passes(3) == 6
    same = [v for v in FrequencyBands().apply(cases(), None, None).variants if v.images is not None]
    assert [v.level.name.split()[2] for v in same] == ["cycles/px"] * 6
    twice = cases(n=1, spacing=torch.tensor([[2.0, 2.0]]))
    low = FrequencyBands.from_options({"levels": ["low-pass 0.1 cycles/mm"]})
    found = next(low.apply(twice, None, None).variants).images
    torch.testing.assert_close(found, low_pass(twice.images, torch.ones(1, 2), 0.2))


def test_a_frequency_that_the_pixels_do_not_hold_is_not_applicable():
    batch = cases(spacing=torch.full((3, 2), 4.0))
    found = {v.level.name: v for v in FrequencyBands().apply(batch, None, None).variants}
    assert not found["high-pass 0.2 cycles/mm"].applicable.any()
    assert found["high-pass 0.2 cycles/mm"].reason == "the pixels hold no frequency as high as this"
    assert found["high-pass 0.08 cycles/mm"].applicable.all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 20, 20)])
def test_any_shape_is_filtered_and_stays_in_range(shape):
    batch = cases(shape)
    for variant in FrequencyBands().apply(batch, None, None).variants:
        if variant.images is not None:
            assert variant.images.shape == batch.images.shape
            assert variant.images.isfinite().all()
            assert variant.images.min() >= 0
            assert variant.images.max() <= 1


@pytest.mark.parametrize(
    "value", ["low-pass 0.1", "band-pass 0.1 cycles/mm", "low-pass 0 cycles/mm", "low-pass nan cycles/px", "3"]
)
def test_a_band_without_meaning_is_refused(value):
    with pytest.raises(PlanError, match="levels"):
        FrequencyBands.from_options({"levels": [value]})


def test_physical_images_are_refused():
    with pytest.raises(DataError, match="expected display images"):
        FrequencyBands().apply(replace(cases(), space=Space.PHYSICAL), None, None)


def test_an_attribute_is_told_from_every_band_within_the_label_so_no_band_names_its_cause():
    """Gichoya et al. 2022: what images tell survives low-pass and high-pass filters; the disease (0.61) does not explain it."""
    rng = np.random.default_rng(0)
    count, side = 200, 48
    attribute = np.repeat([1.0, 0.0], count // 2)
    disease = np.concatenate([np.arange(count // 2) < share for share in (61, 39)]).astype(float)
    across, down = np.fft.rfftfreq(side), np.fft.fftfreq(side)[:, None]
    pink = 1 / np.maximum(np.hypot(across, down), 1 / side)  # structure of all sizes, as tissue has
    texture = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(count, side, side))) * pink, s=(side, side))
    texture *= 0.06 * (1 + 0.35 * attribute[:, None, None]) / texture.std()
    images = torch.tensor(0.5 + texture, dtype=torch.float32).clamp(0, 1)[:, None]
    given = replace(cases((side, side), count), images=images)
    variants = FrequencyBands().apply(given, None, None).variants
    seen = {variant.level.name: variant.images for variant in variants if variant.images is not None}
    assert len(seen) == 6
    for name, altered in {"all": images, **seen}.items():
        probe = prepare(image_numbers(altered), attribute, np.arange(count))
        for label in (np.zeros(count), disease):
            found = told(probe, attribute, label, np.arange(count), count, seed=0, draws=99)
            assert found.auc.lower > 0.8, name
            assert found.p <= 0.01, name
    assert metadata_auc(attribute, disease, np.arange(count), count, seed=0).value == pytest.approx(0.61)
