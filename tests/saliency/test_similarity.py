"""Rank correlation and SSIM against SciPy and against the formula written out."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from robustbench_rad.saliency.similarity import normalised, ranks, spearman, spearman_between, ssim, ssim_between


def pair(seed: int = 0, side: int = 20, levels: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = torch.rand(2, 4, side, side, generator=torch.Generator().manual_seed(seed))
    b = 0.5 * a + 0.5 * b
    return ((a * levels).round(), (b * levels).round()) if levels else (a, b)


@pytest.mark.parametrize("levels", [0, 5])
def test_rank_correlation_equals_scipy_also_with_ties(levels):
    a, b = pair(levels=levels)
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(spearman(a, b), torch.tensor(expected, dtype=torch.float32))


def test_rank_correlation_at_its_ends():
    a, _ = pair()
    torch.testing.assert_close(spearman(a, a.square()), torch.ones(4))
    torch.testing.assert_close(spearman(a, -a), -torch.ones(4))
    assert ranks(torch.tensor([[2.0, 2.0, 2.0]])).tolist() == [[2.0, 2.0, 2.0]]


def test_ssim_equals_the_formula():
    a, b = pair()
    for x, y, got in zip(a.double().numpy(), b.double().numpy(), ssim(a, b), strict=True):

        def local(values):
            return gaussian_filter(values, 1.5, mode="nearest", radius=4)

        mx, my = local(x), local(y)
        vx, vy, cov = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
        c1, c2 = 1e-4, 9e-4
        expected = ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
        assert np.isclose(float(got), expected, atol=1e-5)


def test_ssim_knows_the_same_and_the_opposite():
    a, b = pair()
    torch.testing.assert_close(ssim(a, a), torch.ones(4))
    assert (ssim(a, 1 - a) < 0).all()
    assert (ssim(a, b) < ssim(a, a)).all()


def test_volumes_are_compared_slice_by_slice():
    a, b = pair()
    torch.testing.assert_close(ssim(a[None], b[None])[0], ssim(a, b).mean())


@pytest.mark.parametrize("measure", [spearman, ssim])
def test_constant_maps_are_not_assessable(measure):
    a, _ = pair()
    flat = normalised(torch.full_like(a, 0.4))
    assert measure(normalised(a), flat).isnan().all()
    assert measure(flat, normalised(a)).isnan().all()
    assert measure(normalised(torch.zeros_like(a)), normalised(a)).isnan().all()


@pytest.mark.parametrize("measure", [spearman, ssim])
def test_a_map_is_compared_alone(measure):
    a, b = pair()
    for row in range(4):
        torch.testing.assert_close(measure(a, b)[row], measure(a[row : row + 1], b[row : row + 1])[0])


@pytest.mark.parametrize(("measure", "between"), [(spearman, spearman_between), (ssim, ssim_between)])
def test_all_pairs_equal_each_pair(measure, between):
    a, b = pair()
    b = normalised(torch.cat([b[:2], torch.full_like(b[:1], 0.4)]))
    expected = torch.stack([measure(a, each.expand_as(a)) for each in b], dim=1)
    torch.testing.assert_close(between(a, b), expected, equal_nan=True)
    assert expected[:, 2].isnan().all()
    assert expected[:, :2].isfinite().all()


def test_normalised_takes_strength_not_sign_and_clips_outliers():
    a, _ = pair(side=40)
    torch.testing.assert_close(normalised(-3 * a), normalised(a))
    outlier = a.clone()
    outlier[:, 0, 0] = 1e6
    assert spearman(normalised(outlier), normalised(a)).min() > 0.99
    assert normalised(outlier).amax() == 1
    point = torch.zeros(1, 20, 20)
    point[0, 3, 3] = 2
    assert normalised(point)[0, 3, 3] == 1


def test_rounding_dust_does_not_order_flat_regions():
    a = torch.zeros(1, 30, 30)
    a[0, :5, :5] = torch.rand(5, 5)
    dust = a + 1e-7 * torch.rand(1, 30, 30)
    torch.testing.assert_close(spearman(normalised(dust), normalised(a)), torch.ones(1))
