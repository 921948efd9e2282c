"""Objects drawn in millimetres: areas, thin lines, uneven pixels."""

import math

import pytest
import torch

from robustbench_rad.shifts._overlay import Canvas, bezier


def canvas(spacing=(0.5, 0.4), shape=(200, 300)):
    return Canvas.of(torch.zeros(1, *shape), torch.tensor(spacing)), spacing[0] * spacing[1]


def test_a_disc_has_its_area_and_place():
    paper, pixel = canvas()
    disc = paper.disc((10.0, -5.0), 12.0)
    assert disc.sum().item() * pixel == pytest.approx(math.pi * 144, rel=0.005)
    assert (disc * paper.x).sum() / disc.sum() == pytest.approx(10.0, abs=0.05)
    assert (disc * paper.y).sum() / disc.sum() == pytest.approx(-5.0, abs=0.05)


@pytest.mark.parametrize("width", [0.1, 0.3, 2.0])
def test_a_line_attenuates_in_total_as_much_as_it_is_wide_even_below_a_pixel(width):
    paper, pixel = canvas()
    line = paper.line([(-30.0, -20.0), (30.0, 25.0)], width)
    assert line.sum().item() * pixel == pytest.approx(75 * width, rel=0.05)


@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_a_plate_has_its_area_and_its_angle(angle):
    paper, pixel = canvas()
    plate = paper.plate((0.0, 0.0), 60.0, 10.0, angle, 3.0)
    area = 600 - (4 - math.pi) * 9
    assert plate.sum().item() * pixel == pytest.approx(area, rel=0.01)
    both = (plate * paper.x * paper.y).sum()
    found = 0.5 * math.atan2(2 * both, (plate * (paper.x**2 - paper.y**2)).sum())
    assert found == pytest.approx(angle, abs=0.01)


def test_a_curve_begins_and_ends_at_its_first_and_last_point():
    points = bezier([(0, 0), (5, 9), (8, -9), (20, 4)])
    assert points[0] == (0.0, 0.0)
    assert points[-1] == pytest.approx((20.0, 4.0))


def test_a_single_pixel_is_a_canvas_too():
    paper, _ = canvas(shape=(1, 1))
    assert paper.disc((0.0, 0.0), 5.0).tolist() == [[1.0]]
    assert paper.size_mm == pytest.approx((0.45, 0.45))
