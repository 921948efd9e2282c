"""How the search moves, on landscapes of one coordinate where every step can be worked out by hand.

The margin of these models is a piecewise linear function of ``z = (mean(x) - 0.5) / (4/255)``: the mean shift in parts of
the smaller radius. The label is positive, so the search goes downhill.
"""

from itertools import pairwise

import pytest
import torch
from torch import nn

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.pgd_linf import PgdLinf


class Landscape(nn.Module):
    """Straight lines between points ``(z, margin)``, continued at both ends."""

    def __init__(self, *points):
        super().__init__()
        self.points = points

    def forward(self, images):
        z = (images.flatten(1).mean(1, keepdim=True) - 0.5) / (4 / 255)
        first, height = self.points[0]
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(self.points)]
        margin = height + slopes[0] * (z - first)
        for (knot, _), before, after in zip(self.points[1:-1], slopes, slopes[1:], strict=False):
            margin = margin + (after - before) * torch.relu(z - knot)
        return margin


@pytest.fixture
def search(lab):
    def run(*points, **options):
        classifier = lab.classifier(Landscape(*points), size=(2, 2))
        batch = lab.batch(torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1), stored_bits=16)
        options = {"levels": ladder("4/255"), "random_starts": 0, **options}
        margins, measured = lab.attack(PgdLinf(**options), classifier, batch)
        steps = [measured["steps_to_flip", name, "finding-0"].item() for name in margins]
        return [values.item() for values in margins.values()], steps

    return run


def test_the_landscape_is_what_it_says():
    points = ((-1.0, 2.0), (0.0, 0.5), (1.0, 3.0))
    for z, margin in points:
        image = torch.full((1, 1, 2, 2), 0.5 + z * 4 / 255)
        assert Landscape(*points)(image).item() == pytest.approx(margin, abs=1e-4)


def test_the_first_step_is_the_whole_radius(search):
    margins, steps = search((-1.0, -0.5), (1.0, 1.5))
    assert margins == [pytest.approx(-0.5, abs=1e-3)]
    assert steps == [1]


def test_a_leap_that_overshoots_is_taken_back(search):
    # The leap ends at z = -1, higher than the start and on the far side of a peak at -0.7; the valley is at -0.4.
    valley = ((-1.0, 0.5), (-0.7, 0.8), (-0.4, -0.05), (0.0, 0.35), (1.0, 1.35))
    margins, steps = search(*valley)
    assert margins[0] < 0
    assert steps[0] > 2


def test_the_walk_goes_on_with_the_slope_of_where_it_stands(search):
    # The leap to -1 is lower than the start, but past the valley: the way down is back, by exactly a quarter.
    margins, steps = search((-1.0, 0.24), (-0.75, -0.01), (-0.7, 0.04), (0.0, 0.74))
    assert steps == [2]
    assert margins == [pytest.approx(-0.01, abs=1e-3)]


def test_a_larger_level_goes_on_from_the_best_plane_of_the_smaller(search):
    # From the start, a basin at -0.05 behind a barrier at -0.7; the leap of the smaller level lands beyond it, at -1, from
    # where the larger one finds the flip at -1.3. Its own leap, to -2, is too high.
    barrier = ((-2.0, 3.0), (-1.3, -0.1), (-0.7, 1.2), (-0.05, 0.9), (0.0, 0.95), (2.0, 2.95))
    margins, steps = search(*barrier, levels=ladder("4/255", "8/255"))
    assert margins[0] == pytest.approx(0.55, abs=1e-2)
    assert margins[1] < 0
    assert search(*barrier, levels=ladder("8/255"))[0][0] > 0
    assert steps[1] > 1


def test_the_best_plane_counts_not_the_last(search):
    # Constant steps of a quarter swing over the valley at -0.3: the lowest plane met is at -0.25.
    margins, _ = search((-1.0, 2.4), (-0.3, 1.0), (1.0, 3.6), step_rule="constant", steps=4, full_search=("4/255",))
    assert margins == [pytest.approx(1.1, abs=1e-2)]


def test_constant_steps_are_a_quarter_each(search):
    _, steps = search((-1.0, -0.3), (0.0, 0.7), step_rule="constant")
    assert steps == [3]


def test_a_full_search_goes_on_after_the_flip(search):
    slide = ((-1.0, -0.3), (0.0, 0.7))
    options = {"step_rule": "constant", "steps": 8}
    to_the_flip, _ = search(*slide, **options)
    through, steps = search(*slide, **options, full_search=("4/255",))
    assert to_the_flip == [pytest.approx(-0.05, abs=1e-3)]
    assert through == [pytest.approx(-0.3, abs=1e-3)]
    assert steps == [3]
