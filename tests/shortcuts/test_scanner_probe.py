"""What the probe of the scanner keeps: numbers of the image, features, mean images per value."""

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import PlanError
from robustbench_rad.shortcuts import _image_numbers as numbers
from robustbench_rad.shortcuts.scanner_probe import ScannerProbe, projected


def batch(images, *, scanner=None, burned=(), spacing=None):
    count = len(images)
    names = tuple(f"case-{row}" for row in range(count))
    return Batch(
        images=images,
        labels=torch.zeros(count, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(range(count)),
        space=Space.DISPLAY,
        metadata=tuple({"scanner": value} for value in scanner or ["A"] * count),
        burned_in=burned,
        spacing_mm=spacing,
    )


def noise(count=4, size=(40, 52), scale=0.05):
    drawn = torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(0))
    return (0.5 + scale * drawn).clamp(0, 1)


def test_noise_is_measured_in_shares_of_the_range_and_edges_hardly_count():
    images = noise(size=(200, 200))
    images[:, :, :, 100:] += 0.2
    measured = ScannerProbe().apply(batch(images), None, None).measurements[0]
    assert measured.quantity == "display_noise_sd"
    np.testing.assert_allclose(measured.values.numpy(), 0.05, rtol=0.05)


def test_numbers_are_304_and_finite_but_for_bands_of_an_unknown_spacing():
    found = numbers.image_numbers(noise())
    assert found.shape == (4, 304)
    assert found[:, :-14].isfinite().all()
    assert found[:, -14:].isnan().all()
    known = numbers.image_numbers(noise(), torch.full((4, 2), 1.0))
    assert known[:, -9:-6].isfinite().all()
    assert known[:, -1].isnan().all()  # beyond the Nyquist frequency


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (24, 24), (5, 30, 20)])
def test_any_size_and_volumes_too(size):
    found = numbers.image_numbers(torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1)))
    assert found.shape == (2, 304)
    assert found[:, :280].isfinite().all()


def test_a_wave_stands_in_the_band_of_its_frequency_per_millimetre_whatever_the_sampling():
    bands = []
    for pixels, spacing in ((128, 0.5), (256, 0.25)):
        place = torch.arange(pixels) * spacing
        image = 0.5 + 0.3 * torch.sin(2 * torch.pi * 0.3 * place).expand(1, pixels, pixels).double()
        found = numbers.spectra(image, torch.full((1, 2), spacing).double())[1][0]
        bands.append(int(torch.nan_to_num(found, nan=-99).argmax()))
    low, high = (numbers.BANDS_PER_MM[bands[0] + step] for step in (0, 1))
    assert bands[0] == bands[1]
    assert low <= 0.3 < high


def test_features_are_kept_or_projected_alike_for_every_batch():
    wide = torch.randn(6, 700, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(projected(wide)[2:4], projected(wide[2:4]), rtol=1e-6, atol=1e-6)
    distance = torch.cdist(projected(wide), projected(wide)) / torch.cdist(wide, wide).clamp(min=1e-9)
    assert (distance[distance > 0] - 1).abs().max() < 0.2


def test_mean_images_are_those_of_the_values_without_burned_in_text_in_any_order():
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    scanner = ["A", "B", "A", "B", "A", ""]
    whole = batch(images, scanner=scanner, burned=(False, False, False, False, True, False))
    condition = ScannerProbe(columns=("scanner",))
    state = condition.fit(None, iter([whole]))
    assert sorted(state) == ["mean scanner=A", "mean scanner=B"]
    torch.testing.assert_close(state["mean scanner=A"], images[[0, 2], 0].mean(0, keepdim=True))
    parts = [whole.select(torch.tensor(rows)) for rows in ([5, 3], [2, 1, 4], [0])]
    again = condition.fit(None, iter(parts))
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_a_column_with_many_values_has_no_mean_images_and_eight_are_kept_at_most():
    images = torch.rand(50, 1, 4, 4)
    condition = ScannerProbe(columns=("scanner",))
    assert condition.fit(None, iter([batch(images, scanner=[str(row) for row in range(50)])])) == {}
    state = condition.fit(None, iter([batch(images, scanner=[f"{row % 12:02d}" for row in range(50)])]))
    assert len(state) == 8
    assert "mean scanner=00" in state
    assert ScannerProbe().fit(None, iter([batch(images)])) == {}


def test_levels_are_refused():
    with pytest.raises(PlanError, match="no levels"):
        ScannerProbe.from_options({"levels": [1]})
