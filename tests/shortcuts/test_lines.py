"""Finding thin bright lines: what is one, what is not, and that nothing depends on the batch."""

import math

import pytest
import torch

from robustbench_rad.shortcuts._lines import LineSearch, line_masks, moved_aside, turned

SIDE = 96


def planes(n=1, noise=0.0, seed=0, side=SIDE):
    generator = torch.Generator().manual_seed(seed)
    return 0.4 + noise * torch.randn(n, 1, side, side, generator=generator)


def line(angle_degrees, *, width=1.4, length=60.0, bend=0.0, side=SIDE):
    """Coverage ``(1, 1, S, S)`` of a line through the middle, ``bend`` pixels off the straight at both ends."""
    ax = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(ax, ax, indexing="ij")
    angle = math.radians(angle_degrees)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    across = across - bend * (2 * along / length) ** 2
    covered = (width / 2 + 0.5 - across.abs()).clamp(0, 1) * (length / 2 + 0.5 - along.abs()).clamp(0, 1)
    return covered[None, None]


def everywhere(images):
    return torch.ones_like(images, dtype=torch.bool)


def found(images, searched=None, **options):
    return line_masks(images, everywhere(images) if searched is None else searched, LineSearch(**options))


@pytest.mark.parametrize("angle", [0, 7, 30, 45, 60, 88, 90, 118, 135, 170])
def test_a_line_is_found_in_every_direction(angle):
    mark = line(angle)
    mask = found(planes(noise=0.02) + 0.12 * mark)
    assert mask[mark > 0.6].float().mean() > 0.8
    assert mask.float().mean() < 0.06


def test_a_bent_line_is_found():
    mark = line(70, bend=2.0)
    assert found(planes() + 0.1 * mark)[mark > 0.6].float().mean() > 0.7


def test_a_faint_line_is_found_by_its_length_where_the_noise_is_known():
    mark = line(80)
    noisy = planes(noise=0.05, seed=1)
    assert found(noisy + 0.12 * mark)[mark > 0.6].float().mean() > 0.6
    assert found(noisy + 0.01 * mark)[mark > 0.6].float().mean() <= 0.2


@pytest.mark.parametrize(
    "form",
    [
        lambda: 0.3 * (torch.arange(SIDE) > SIDE // 2).float().expand(1, 1, SIDE, SIDE),  # an edge
        lambda: -0.2 * line(60),  # a dark line
        lambda: 0.2 * line(60, length=12.0),  # a short one
        lambda: 0.2 * line(60, width=9.0),  # a band
        lambda: torch.arange(SIDE).float().expand(1, 1, SIDE, SIDE) / SIDE / 2,  # a ramp
    ],
    ids=["edge", "dark line", "short line", "band", "ramp"],
)
def test_what_is_no_thin_bright_line_is_left(form):
    assert not found(planes() + form()).any()


def test_noise_alone_is_hardly_ever_taken_for_a_line():
    lungs = torch.zeros(40, 1, 48, 48, dtype=torch.bool)
    lungs[..., 12:36, 9:21] = True
    assert found(planes(40, noise=0.06, side=48), lungs).flatten(1).any(1).float().mean() <= 0.1


def test_lines_are_looked_for_where_they_may_lie_only():
    mark = line(90)
    searched = everywhere(mark)
    searched[..., 40:56] = False
    assert found(planes() + 0.2 * mark).any()
    assert not found(planes() + 0.2 * mark, searched).any()
    assert not found(planes() + 0.2 * mark, torch.zeros_like(searched)).any()


def test_what_lies_outside_of_where_it_is_searched_changes_nothing():
    mark = line(90)
    searched = everywhere(mark)
    searched[..., :30] = False
    images = planes(noise=0.01) + 0.2 * mark
    other = torch.where(searched, images, torch.rand(1, 1, SIDE, SIDE))
    assert torch.equal(found(images, searched, noise_multiple=1e-6), found(other, searched, noise_multiple=1e-6))


def test_the_answer_does_not_depend_on_the_batch():
    images = planes(7, noise=0.05) + 0.15 * torch.cat([line(20.0 * row) for row in range(7)])
    whole = found(images)
    assert whole.flatten(1).any(1).all()
    for row in range(7):
        assert torch.equal(found(images[row : row + 1])[0], whole[row])


def test_planes_are_searched_at_256_pixels_at_most_and_masks_come_back_in_full():
    mark = line(75, side=512, length=300.0, width=4.0)
    mask = found(planes(side=512) + 0.2 * mark)
    assert mask.shape == mark.shape
    assert mask[mark > 0.6].float().mean() > 0.9


@pytest.mark.parametrize("angle", [0.3, 1.2, 2.5])
def test_turning_there_and_back_gives_the_middle_of_a_smooth_plane_again(angle):
    ax = torch.linspace(-2, 2, 64)
    smooth = torch.exp(-(ax[:, None] ** 2) - 0.5 * ax**2)[None, None]
    back = turned(turned(smooth, angle, (91, 91)), -angle, (64, 64))
    torch.testing.assert_close(back[..., 16:48, 16:48], smooth[..., 16:48, 16:48], atol=0.01, rtol=0)


def test_a_placebo_lies_beside_the_line_in_what_was_searched():
    mask = line(90) > 0.5
    searched = everywhere(mask)
    searched[..., SIDE // 2 + 4 :] = False
    aside = moved_aside(mask, searched)
    assert aside.sum() == mask.sum()
    assert not (aside & mask).any()
    assert not (aside & ~searched).any()
    assert not moved_aside(torch.zeros_like(mask), searched).any()
