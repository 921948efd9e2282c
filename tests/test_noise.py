"""The noise level read from images whose noise is known."""

import pytest
import torch

from robustbench_rad.noise import noise_sd


def drawn(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sd", [0.005, 0.02, 0.08])
def test_white_noise_on_smooth_anatomy_is_read_within_five_percent(sd):
    axis = torch.linspace(-1, 1, 160)
    anatomy = 0.4 + 0.3 * torch.exp(-3 * (axis[:, None] ** 2 + axis[:120] ** 2))
    found = noise_sd(anatomy + sd * drawn((6, 1, 160, 120)))
    torch.testing.assert_close(found, torch.full((6,), sd), rtol=0.05, atol=0)


def test_air_around_the_patient_and_a_few_edges_do_not_count():
    axis = torch.linspace(-1, 1, 200)
    body = ((axis[:, None] ** 2 + axis**2) < 0.5).float()
    images = (0.6 * body + 0.2 * body * (axis > 0.1).float() + 0.02 * body * drawn((3, 1, 200, 200))).clamp(0, 1)
    torch.testing.assert_close(noise_sd(images), torch.full((3,), 0.02), rtol=0.1, atol=0)


def test_clipped_pixels_do_not_pull_the_noise_down():
    images = (0.8 + 0.05 * drawn((2, 1, 100, 100))).clamp(0, 1)
    images[..., :60, :] = 1.0
    torch.testing.assert_close(noise_sd(images), torch.full((2,), 0.05), rtol=0.1, atol=0)


def test_volumes_and_units_and_order():
    volumes = 0.5 + 0.02 * drawn((3, 1, 5, 40, 30))
    found = noise_sd(volumes)
    torch.testing.assert_close(found, torch.full((3,), 0.02), rtol=0.1, atol=0)
    torch.testing.assert_close(noise_sd(volumes * 100), found * 100)
    torch.testing.assert_close(noise_sd(volumes.flip(0)), found.flip(0), rtol=0, atol=0)


def test_flat_images_have_none_and_tiny_ones_do_not_say():
    assert noise_sd(torch.full((1, 1, 40, 40), 0.5)).isnan().all()  # every pixel is at the edge of the range
    stripes = torch.linspace(0.2, 0.8, 40).expand(1, 1, 40, 40)
    assert noise_sd(stripes).item() == pytest.approx(0.0, abs=1e-6)
    for shape in ((1, 1, 1, 1), (2, 1, 3, 3), (0, 1, 8, 8)):
        found = noise_sd(torch.rand(shape))
        assert found.shape == shape[:1]
        assert found.isnan().all()


@pytest.mark.parametrize("scale", [1.0, 1 / 255], ids=["grey-levels", "signal"])
@pytest.mark.parametrize("levels", [1.0, 1.5, 2.0, 4.0])
def test_noise_of_a_grey_level_or_more_is_not_read_in_steps(levels, scale):
    """A plain median of whole grey levels jumps by 0.74; rounding adds a variance of 1/12."""
    stored = (120 + levels * drawn((1, 1, 400, 400))).round()
    expected = (levels**2 + 1 / 12) ** 0.5 * scale
    assert noise_sd(stored * scale).item() == pytest.approx(expected, rel=0.02)
