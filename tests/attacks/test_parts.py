"""The small objects an attack is made of."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import replace_rows
from robustbench_rad.attacks._threat import L0Ball, L1Ball, L2Ball, LinfBall, stored, whole_grey_levels
from robustbench_rad.attacks.pgd_linf import PgdLinf


def test_targets_are_the_labelled_pairs_with_their_direction():
    labels = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    targets = Targets.of(labels, torch.zeros(2, 2))
    assert targets.case.tolist() == [0, 1, 1]
    assert targets.finding.tolist() == [0, 0, 1]
    assert targets.side.tolist() == [1.0, -1.0, 1.0]


def test_a_pair_without_a_clean_margin_is_no_target():
    assert len(Targets.of(torch.ones(1, 2), torch.tensor([[torch.nan, 1.0]]))) == 1


def test_weights_times_margins_is_the_health():
    targets = Targets.of(torch.tensor([[1.0, 0.0], [0.0, torch.nan]]), torch.zeros(2, 2))
    margins = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((targets.weights(2) * margins).sum(1), targets.health(margins))


def test_health_ignores_what_the_model_says_of_other_findings():
    targets = Targets.of(torch.tensor([[1.0, torch.nan]]), torch.zeros(1, 2))
    assert targets.health(torch.tensor([[2.0, torch.nan]])).tolist() == [2.0]


@pytest.mark.parametrize(
    ("label", "margin", "wrong"), [(1, -0.1, True), (1, 0.0, False), (0, 0.0, True), (0, -0.1, False)]
)
def test_a_margin_of_zero_is_a_positive_call(label, margin, wrong):
    targets = Targets.of(torch.tensor([[float(label)]]), torch.zeros(1, 1))
    assert targets.wrong(targets.health(torch.tensor([[margin]]))).item() is wrong


def test_chunks_cover_every_target_once():
    targets = Targets.of(torch.ones(5, 3), torch.zeros(5, 3))
    index = list(targets.chunks(4))
    assert [len(part) for part in index] == [4, 4, 4, 3]
    assert torch.cat(index).tolist() == list(range(15))
    assert list(targets.select(torch.tensor([], dtype=torch.int64)).chunks(4)) == []


def storable(radius, bits):
    return whole_grey_levels(torch.tensor([radius], dtype=torch.float64), bits).item()


@given(radius=st.floats(1e-4, 1.0), bits=st.integers(1, 16))
def test_the_storable_ball_is_the_largest_inside(radius, bits):
    grey_levels = 2**bits - 1
    whole = storable(radius, bits) * grey_levels
    assert whole == pytest.approx(round(whole), abs=1e-2)  # float32
    assert -1e-2 <= radius * grey_levels - whole < 1.01


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_one_grey_level_is_storable_at_every_depth(bits):
    for count in range(1, 17):
        assert storable(count / (2**bits - 1), bits) * (2**bits - 1) == pytest.approx(count)


def test_a_rounded_decimal_is_still_the_grey_level_it_means():
    assert storable(0.00392156, 8) == pytest.approx(1 / 255)
    assert storable(0.0038, 8) == 0


def test_clamping_to_the_bounds_keeps_ball_and_box():
    source = torch.Generator().manual_seed(0)
    centre, planes = torch.rand(2, 1, 3, 4, 5, generator=source), 4 * torch.rand(2, 1, 3, 4, 5, generator=source) - 2
    ball = LinfBall(centre=centre, radius=torch.tensor([0.25, 0.1]), bits=8)
    low, high = ball.bounds()
    projected = planes.clamp(low, high)
    assert torch.equal(projected, ball.project(planes))
    assert ((projected - centre).abs().flatten(1).amax(1) <= torch.tensor([0.25, 0.1]) + 1e-6).all()
    assert projected.min() >= 0
    assert projected.max() <= 1
    assert torch.equal(low.clamp(low, high), low)


@pytest.fixture(
    params=[(LinfBall, 8 / 255), (L2Ball, 0.02), (L1Ball, 0.01), (L0Ball, 7)], ids=["linf", "l2", "l1", "l0"]
)
def ball(request):
    kind, radius = request.param
    centre = stored(torch.rand(3, 1, 6, 5, generator=torch.Generator().manual_seed(1)), 8)
    allowed = torch.rand(3, 1, 6, 5, generator=torch.Generator().manual_seed(2)) < 0.7
    return kind(centre=centre, radius=torch.full((3,), float(radius)), bits=8, allowed=allowed)


def test_a_projected_and_stored_plane_is_in_the_ball_the_box_the_mask_and_on_the_grid(ball):
    planes = ball.centre + torch.randn(ball.centre.shape, generator=torch.Generator().manual_seed(3))
    kept = stored(ball.store(ball.project(planes)), 8)
    assert ball.contains(kept).all()
    assert kept.min() >= 0
    assert kept.max() <= 1
    assert torch.equal(kept[~ball.allowed], ball.centre[~ball.allowed])
    torch.testing.assert_close(kept * 255, (kept * 255).round(), atol=1e-4, rtol=0)
    assert (ball.size(kept - ball.centre) > 0).all()


def test_projecting_twice_is_projecting_once(ball):
    planes = ball.centre + torch.randn(ball.centre.shape, generator=torch.Generator().manual_seed(3))
    once = ball.project(planes)
    torch.testing.assert_close(ball.project(once), once, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [L2Ball, L1Ball])
def test_the_projection_is_the_nearest_plane(kind):
    source = torch.Generator().manual_seed(0)
    centre, planes = torch.full((1, 1, 4, 4), 0.5), 0.5 + 0.1 * torch.randn(1, 1, 4, 4, generator=source)
    ball = kind(centre=centre, radius=torch.tensor([0.03]), bits=16)
    projected = ball.project(planes)
    assert ball.size(projected - centre).item() == pytest.approx(0.03, rel=1e-4)
    for _ in range(200):  # no other plane of the ball is nearer
        other = ball.project(projected + 0.02 * torch.randn(1, 1, 4, 4, generator=source))
        assert (other - planes).norm() >= (projected - planes).norm() - 1e-5


def test_a_pixel_outside_the_box_stays_where_it_is():
    centre = torch.tensor([[[[-0.3, 0.5, 1.2]]]])
    ball = LinfBall(centre=centre, radius=torch.tensor([0.1]), bits=16)
    low, high = ball.bounds()
    torch.testing.assert_close(low, torch.tensor([[[[-0.3, 0.4, 1.1]]]]))
    torch.testing.assert_close(high, torch.tensor([[[[-0.2, 0.6, 1.2]]]]))


def test_storing_twice_is_storing_once():
    once = stored(torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0)), 8)
    torch.testing.assert_close(stored(once, 8), once, rtol=0, atol=0)


@pytest.mark.parametrize("steps", range(3, 101))
def test_later_steps_can_cross_the_ball(steps):
    fractions = step_fractions(steps, StepRule.DECAYING)
    assert len(fractions) == steps
    assert fractions[0] == 1
    assert sum(fractions[1:]) >= 2
    assert list(fractions[1:]) == sorted(fractions[1:], reverse=True)


def test_one_step_is_the_whole_radius():
    assert step_fractions(1, StepRule.DECAYING) == (1.0,)


def test_the_price_counts_a_backward_as_two():
    assert PgdLinf(steps=20, random_starts=1).passes_per_level == 2 * (19 * 3 + 1)


def test_replacing_planes_is_exact():
    source = torch.Generator().manual_seed(0)
    planes, others = torch.rand(9, 1, 5, 7, generator=source), torch.rand(9, 1, 5, 7, generator=source)
    rows = torch.arange(9) % 2 == 0
    expected = torch.where(rows[:, None, None, None], others, planes)
    replace_rows(planes, rows, others)
    assert torch.equal(planes, expected)
