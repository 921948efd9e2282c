"""Rotation, shift and zoom: exact on integer shifts and on the grid, in millimetres, in planes and volumes."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.attacks._envelope import NO_SPACING, shares
from robustbench_rad.attacks.spatial import (
    UNSEEN,
    Spatial,
    coarse_poses,
    inverse_affine,
    leaves_field,
    resampled,
    rotation,
)
from robustbench_rad.errors import PlanError


def pose(images, *, angles=(0.0,), shift=(0.0, 0.0), zoom=1.0, spacing=(1.0, 1.0)):
    """One image in one pose."""
    matrix = inverse_affine(
        torch.tensor([[angles]]),
        torch.tensor([[shift]]),
        torch.tensor([[zoom]]),
        torch.tensor([[spacing]]),
        images.shape[2:],
    )
    return resampled(images, matrix, torch.zeros(1, 1, dtype=torch.bool))[0][:, 0]


def shifted(images, rows, columns):
    """Images moved by whole pixels, continued with their edge."""
    height, width = images.shape[-2:]
    at_row = (torch.arange(height) - rows).clamp(0, height - 1)
    at_column = (torch.arange(width) - columns).clamp(0, width - 1)
    return images[..., at_row[:, None], at_column]


def smooth(lab, shape, seed=0):
    """Random images in which neighbours are alike, on the 8-bit grid."""
    noise = lab.images(shape, seed=seed)
    for axis in range(2, noise.ndim):
        noise = (noise.roll(1, axis) + noise + noise.roll(-1, axis)) / 3
    bright = lab.images((len(noise), *[1] * (noise.ndim - 1)), seed=seed + 1)
    return ((noise + bright) / 2 * 255).round() / 255


def linear(lab, images, seed=0):
    model = lab.linear(images[0].numel(), seed=seed)
    model.weight.data += 0.5  # brightness tells most, and a shift does not change it
    with torch.no_grad():
        model.bias -= (images.flatten(1) @ model.weight.T + model.bias).median()
    return lab.classifier(model, size=tuple(images.shape[2:]))


def test_whole_pixels_are_shifted_and_quarter_turns_turned_exactly(lab):
    images = smooth(lab, (1, 1, 7, 9))
    for rows, columns in ((2, -3), (-1, 0), (0, 4)):
        torch.testing.assert_close(pose(images, shift=(float(rows), float(columns))), shifted(images, rows, columns))
    half_mm = pose(images, shift=(1.0, -1.5), spacing=(0.5, 1.5))
    torch.testing.assert_close(half_mm, shifted(images, 2, -1))
    square = smooth(lab, (1, 1, 8, 8))
    torch.testing.assert_close(pose(square, angles=(90.0,)), square.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    volume = smooth(lab, (1, 1, 6, 6, 6))
    for turn, axes in enumerate(((3, 4), (2, 4), (2, 3))):
        angles = tuple(90.0 if i == turn else 0.0 for i in range(3))
        turned = pose(volume, angles=angles, shift=(0.0,) * 3, spacing=(1.0,) * 3)
        torch.testing.assert_close(turned, volume.rot90(1, axes), atol=1e-5, rtol=0)


def test_zoom_is_about_the_centre_and_rotations_are_rotations(lab):
    ramp = torch.linspace(-1, 1, 21).expand(1, 1, 21, 21)
    torch.testing.assert_close(pose(ramp, zoom=2.0)[..., 6:15], ramp[..., 6:15] / 2, atol=1e-5, rtol=0)
    matrix = rotation(torch.tensor([10.0, -4.0, 7.0]))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3))
    stretched = pose(smooth(lab, (1, 1, 8, 16)), angles=(90.0,), spacing=(2.0, 1.0))  # 16 x 16 mm
    assert stretched.shape == (1, 1, 8, 16)


def test_nothing_is_resampled_where_nothing_moves(lab):
    images = lab.images((3, 1, 7, 9))
    matrix = inverse_affine(torch.zeros(3, 1, 1), torch.zeros(3, 1, 2), torch.ones(3, 1), torch.ones(3, 1, 2), (7, 9))
    planes, padded = resampled(images, matrix, torch.ones(3, 1, dtype=torch.bool))
    assert torch.equal(planes[:, 0], images)
    assert padded.max() == 0


@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_shifts_alone_find_the_worst_of_all_whole_pixels(lab, full):
    images = smooth(lab, (300, 1, 7, 9))
    classifier = linear(lab, images)
    labels = lab.called(classifier, images)
    attack = Spatial(
        levels=shares("1/2", 1),
        full_search=("1/2", "1") if full else (),
        rotation_degrees=0,
        zoom=0,
        shift_mm=2,
        refinements=0,
    )
    batch = lab.batch(images, labels, spacing_mm=torch.ones(300, 2))
    margins, _ = lab.attack(attack, classifier, batch)
    with torch.no_grad():
        for name, reach in (("1/2", 1), ("1", 2)):
            # the grid has halves of the envelope: at 1/2 these are half pixels
            steps = [-1.0, -0.5, 0.0, 0.5, 1.0]
            planes = [(pose_all(images, (reach * r, reach * c)) * 255).round() / 255 for r in steps for c in steps]
            worst = lab.side(labels) * torch.stack([lab.side(labels) * classifier.margins(p) for p in planes]).amin(0)
            flipped = (worst >= 0).float() != labels
            assert torch.equal((margins[name] >= 0).float() != labels, flipped)
            if full and name == "1":
                worst = lab.side(labels) * torch.minimum(lab.side(labels) * worst, lab.side(labels) * margins["1/2"])
                torch.testing.assert_close(margins[name], worst, rtol=1e-4, atol=1e-4)
    whole = [shifted(images, r, c) for r in range(-2, 3) for c in range(-2, 3)]
    brute = torch.stack([lab.side(labels) * classifier.margins(plane).detach() for plane in whole]).amin(0)
    assert ((lab.side(labels) * margins["1"] <= brute + 1e-4) | (not full)).all()
    assert 0.05 < flipped.float().mean() < 1


def pose_all(images, shift):
    matrix = inverse_affine(
        torch.zeros(1, 1, 1), torch.tensor([[shift]]), torch.ones(1, 1), torch.ones(1, 1, 2), images.shape[2:]
    )
    return resampled(images, matrix.expand(len(images), -1, -1, -1), torch.zeros(len(images), 1, dtype=torch.bool))[0][
        :, 0
    ]


@pytest.mark.parametrize("shape", [(8, 11), (5, 6, 7)], ids=["plane", "volume"])
def test_the_whole_grid_is_searched_and_refined(lab, shape):
    images = smooth(lab, (6, 1, *shape))
    classifier = linear(lab, images)
    labels = lab.called(classifier, images)
    spacing = torch.linspace(0.5, 1.5, len(shape)).expand(6, -1)
    batch = lab.batch(images, labels, spacing_mm=spacing)
    coarse = Spatial(levels=shares(1), full_search=("1",), refinements=0, shift_mm=2, candidates=50)
    margins, measured = lab.attack(coarse, classifier, batch)
    poses = coarse_poses(len(shape))
    angles, shifts, zoom = coarse._physical(poses, len(shape))
    worst = torch.full((6,), torch.inf)
    for row in range(6):
        matrix = inverse_affine(angles, shifts, zoom, spacing[row], images.shape[2:])
        planes, _ = resampled(images[[row]], matrix[None], (poses == 0).all(1)[None])
        with torch.no_grad():
            health = lab.side(labels)[row] * classifier.margins((planes[0] * 255).round() / 255)[:, 0]
        worst[row] = health.min()
        best = health.argmin()
        torch.testing.assert_close(measured["worst_zoom", "1", "finding-0"][row], zoom[best])
        torch.testing.assert_close(measured["worst_rotation_degrees", "1", "finding-0"][row], angles[best, 0])
        torch.testing.assert_close(measured["worst_shift_column_mm", "1", "finding-0"][row], shifts[best, -1])
    torch.testing.assert_close((lab.side(labels) * margins["1"])[:, 0], worst, rtol=1e-4, atol=1e-4)
    fine, _ = lab.attack(replace(coarse, refinements=20), classifier, batch)
    gain = lab.side(labels) * (margins["1"] - fine["1"])
    assert (gain >= 0).all()
    assert gain.max() > 0


def test_at_most_a_thousand_poses_are_paid_and_counted(lab):
    model = lab.Linear(torch.full((1, 30), 1e-6), torch.tensor([5.0]))
    classifier = lab.classifier(model, size=(5, 6))
    images = lab.images((2, 1, 5, 6), bits=8)
    batch = lab.batch(images, torch.ones(2, 1), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    lab.attack(Spatial(), classifier, batch, spy)
    spent = sum(len(planes) for planes in spy.planes) + 2 * spy.backwards
    assert spent == 2 * (3 + 3 * (524 + 160)) <= 2 * Spatial().passes(1)
    assert Spatial().passes_per_level <= 1000


def test_order_companions_and_the_size_of_a_round_change_nothing(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    batch = lab.batch(images, labels)
    attack = Spatial(levels=shares("1/2", 1), refinements=4)
    reference, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, again = lab.attack(attack, classifier, batch.select(order))
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], shuffled[name])
    for name, values in measured.items():
        torch.testing.assert_close(values[order], again[name], equal_nan=True)
    full = replace(attack, full_search=("1/2", "1"))
    one, other = (lab.attack(replace(full, candidates=n), classifier, batch)[0] for n in (3, 64))
    for name, margins in one.items():
        torch.testing.assert_close(margins, other[name])
        assert (lab.side(labels) * margins <= lab.side(labels) * reference[name] + 1e-6).all()
    assert ((reference["1"] >= 0).float() != labels).float().mean() > 0.3


def test_unknown_spacing_is_said_and_taken_as_pixels(lab, calibrated):
    classifier, images, labels = calibrated(cases=4)
    attack = Spatial(levels=shares(1), refinements=2, full_search=("1",))
    variant, *_ = attack.apply(lab.batch(images, labels), lab.SpyQuery(classifier), None).variants
    assert NO_SPACING in variant.reason
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels))
    known, with_mm = lab.attack(attack, classifier, lab.batch(images, labels, spacing_mm=torch.ones(4, 2)))
    torch.testing.assert_close(margins["1"], known["1"])
    assert measured["worst_shift_row_mm", "1", "finding-0"].isnan().all()
    assert not with_mm["worst_shift_row_mm", "1", "finding-0"].isnan().any()
    assert measured["worst_shift_row_px", "1", "finding-0"].abs().max() <= 5


@pytest.mark.parametrize(("shape", "shift"), [((9, 12), 1.0), ((5, 8, 7), 1.5)], ids=["plane", "volume"])
def test_a_pose_leaves_the_lesion_in_the_field_of_view_or_is_known_not_to(lab, shape, shift):
    """Seen by moving the places of the lesion in millimetres, by other means than the attack uses."""
    poses = coarse_poses(len(shape))[::7]
    angles, shifts, zoom = Spatial(rotation_degrees=25, zoom=0.2, shift_mm=shift)._physical(poses, len(shape))
    spacing = torch.linspace(0.8, 1.3, len(shape))
    mask = torch.zeros(1, 1, *shape, dtype=torch.bool)
    mask[(0, 0, *(slice(n // 2 - 1, n // 2 + 1) for n in shape[:-1]), slice(1, 4))] = True
    matrix = inverse_affine(angles, shifts, zoom, spacing, torch.Size(shape))[None]
    found = leaves_field(mask, matrix)[0]
    centre = (torch.tensor(shape) - 1) / 2
    pixels = (mask[0, 0].nonzero() - centre) * spacing  # millimetres from the centre
    for row in range(len(poses)):
        at = zoom[row] * pixels @ rotation(angles[row]).T + shifts[row]
        away = (at.abs() - torch.tensor(shape) * spacing / 2).max()
        if away.abs() > 1e-3:
            assert bool(found[row]) == bool(away > 0)
    assert 0.1 < found.float().mean() < 0.9


def test_a_lesion_is_never_moved_out_to_hide_it(lab):
    """The model looks for a bright spot; only taking the spot out of the image hides it."""

    class Brightest(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1).amax(1, keepdim=True) * 10 - 5

    classifier = lab.classifier(Brightest(), size=(16, 16))
    images = torch.full((3, 1, 16, 16), 0.1)
    images[:, :, 7:11, 1:4] = 0.9
    images[:, :, 7:11, 0] = 0.1
    lesion, labels = images > 0.5, torch.ones(3, 1)
    attack = Spatial(levels=shares(1), refinements=3)
    unguarded, _ = lab.attack(attack, classifier, lab.batch(images, labels))
    assert (unguarded["1"] < 0).all()
    batch = lab.batch(images, labels, lesion=lesion, lesion_known=(True,) * 3, spacing_mm=torch.ones(3, 2))
    guarded, _ = lab.attack(attack, classifier, batch)
    assert (guarded["1"] > 0).all()
    (variant,) = attack.apply(batch, lab.SpyQuery(classifier), None).variants
    assert variant.reason == ""
    unsaid = replace(batch, lesion=lesion & torch.tensor([True, True, False]).reshape(3, 1, 1, 1))
    (variant,) = attack.apply(
        replace(unsaid, lesion_known=(True, True, False)), lab.SpyQuery(classifier), None
    ).variants
    assert variant.reason == UNSEEN
    assert ((variant.margins[:, 0] < 0) == torch.tensor([False, False, True])).all()


@pytest.mark.parametrize(
    "options",
    [
        {"levels": [2]},
        {"levels": [0]},
        {"levels": [1, "1/2"]},
        {"rotation_degrees": -1},
        {"zoom": 0.95},
        {"shift_mm": "5"},
        {"refinements": -1},
        {"candidates": 0},
        {"mask": "body"},
    ],
)
def test_an_envelope_without_meaning_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        Spatial.from_options(options)
