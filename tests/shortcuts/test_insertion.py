"""Objects laid over an image and their placebos: what they are, where they lie, and that nothing else differs."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.registry import entry
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts._insertion import energy, nearest_in_energy, rearranged, scattered, vignette

SIDE = 96
INSERTIONS = tuple(f"shortcut.insert-{kind}" for kind in ("border", "collimation", "marker", "text", "tube"))
FLAT = (0.3,) * 4


def cases(greys=FLAT, shape=(SIDE, SIDE), patients=None) -> Batch:
    """Flat images of these greys: whatever differs was drawn."""
    names = tuple(f"case-{row}" for row in range(len(greys)))
    return Batch(
        images=torch.tensor(greys).reshape(-1, 1, *[1] * len(shape)).expand(-1, 1, *shape).clone(),
        labels=(torch.arange(len(greys)) % 2).float().unsqueeze(1),
        case_ids=names,
        patient_ids=patients or names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
    )


def applied(id, batch, **options):
    result = entry(id).load().from_options(options).apply(batch, None, None)
    return {variant.level.name: variant for variant in result.variants}, result.measurements


def measured(measurements, quantity, level):
    (found,) = [m.values for m in measurements if (m.quantity, m.level) == (quantity, level)]
    return found


@pytest.mark.parametrize("id", INSERTIONS)
def test_every_object_is_followed_by_a_placebo_of_the_same_energy(id):
    variants, measurements = applied(id, cases(shape=(224, 224)))
    names = list(variants)
    assert names[1::2] == [f"{name}, placebo" for name in names[::2]]
    for real, placebo in zip(names[::2], names[1::2], strict=True):
        one, other = (measured(measurements, "change_rms", name) for name in (real, placebo))
        assert (one > 0).all()
        # Dots that stand alone are fainter than those of a stroke once they are smaller than a pixel.
        small = id in ("shortcut.insert-marker", "shortcut.insert-text")
        torch.testing.assert_close(other, one, rtol=0.25 if small else 0.02, atol=0.0)
        assert not torch.equal(variants[real].images, variants[placebo].images)
        assert variants[real].images.min() >= 0
        assert variants[real].images.max() <= 1


@pytest.mark.parametrize("id", INSERTIONS)
def test_a_plan_that_lists_the_object_alone_gets_its_placebo_too(id):
    first = entry(id).load()().levels[0].name
    levels = entry(id).load().from_options({"levels": [first]}).levels
    assert [level.name for level in levels] == [first, f"{first}, placebo"]
    assert levels == entry(id).load().from_options({"levels": [f"{first}, placebo"]}).levels


@pytest.mark.parametrize("id", INSERTIONS)
def test_an_object_that_does_not_exist_is_refused_by_the_nearest_name(id):
    name = entry(id).load().names[0]
    with pytest.raises(PlanError, match=f"Did you mean {name!r}"):
        entry(id).load().from_options({"levels": [name + "s"]})


@pytest.mark.parametrize("id", INSERTIONS)
@pytest.mark.parametrize("shape", [(33, 71), (64, 48)])
def test_images_of_any_shape_are_drawn_on(id, shape):
    variants, _ = applied(id, cases(shape=shape))
    assert all((variant.images != 0.3).any() for variant in variants.values())


@pytest.mark.parametrize(
    ("corner", "letter"), [("top left", "R"), ("top right", "L"), ("bottom left", "R"), ("bottom right", "L")]
)
def test_a_marker_lies_in_its_corner_and_is_the_letter_of_its_side(corner, letter):
    """A patient's left is on the right of the image; an L has most of its ink in the lower half, an R has not."""
    variants, measurements = applied("shortcut.insert-marker", cases(), levels=[corner], height_share=0.12)
    x, y = (measured(measurements, f"{axis}_share", corner) for axis in "xy")
    assert ((x < 0.2) == ("left" in corner)).all()
    assert ((y < 0.25) == ("top" in corner)).all()
    ink = (variants[corner].images[:, 0] - 0.3).clamp_min(0)
    for row in range(len(ink)):
        lines = ink[row].sum(1).nonzero().flatten()
        middle = (lines[0] + lines[-1] + 1) // 2
        lower = ink[row, middle:].sum() / ink[row].sum()
        assert (lower > 0.6) == (letter == "L")


def test_a_marker_has_the_height_it_was_given():
    variants, _ = applied("shortcut.insert-marker", cases(), levels=["top left"], height_share=0.1)
    lines = ((variants["top left"].images[:, 0] - 0.3) > 0.02).any(2).sum(1)
    assert ((lines >= 0.1 * SIDE - 1) & (lines <= 0.1 * SIDE + 2)).all()


def test_lead_adds_to_the_signal_and_ends_at_white():
    variants, _ = applied("shortcut.insert-marker", cases((0.0, 0.5)), levels=["top left"], height_share=0.2)
    lead = variants["top left"].images.flatten(1).amax(1)
    torch.testing.assert_close(lead, torch.tensor([0.8, 1.0]))


@pytest.mark.parametrize("id", ["shortcut.insert-marker", "shortcut.insert-text"])
def test_the_placebo_of_letters_lies_at_a_lateral_border_half_way_down(id):
    variants, measurements = applied(id, cases())
    for name in (name for name in variants if name.endswith("placebo")):
        x, y = (measured(measurements, f"{axis}_share", name) for axis in "xy")
        assert ((x < 0.15) | (x > 0.85)).all()
        assert ((y > 0.4) & (y < 0.6)).all()


def test_the_placebo_of_letters_is_no_letter_and_differs_from_case_to_case():
    variants, _ = applied("shortcut.insert-marker", cases(), levels=["top left"], height_share=0.15)
    ink = variants["top left, placebo"].images - 0.3
    assert not torch.allclose(ink[0], ink[1], atol=1e-3)
    dots = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    mixed = rearranged(dots, torch.Generator().manual_seed(0))
    assert (mixed.sum(), mixed.shape) == (dots.sum(), dots.shape)


def test_of_two_borders_the_one_where_the_placebo_can_be_as_strong_is_taken():
    batch = cases((0.3,))
    batch.images[..., : SIDE // 2] = 1.0  # lead cannot be seen on white
    _, measurements = applied("shortcut.insert-marker", batch, levels=["top right"])
    assert measured(measurements, "x_share", "top right, placebo") > 0.85
    batch.images[...] = batch.images.flip(3)
    _, measurements = applied("shortcut.insert-marker", batch, levels=["top left"])
    assert measured(measurements, "x_share", "top left, placebo") < 0.15


def test_the_energy_of_a_placebo_is_never_raised_and_lowered_to_the_objects():
    clean = torch.zeros(2, 1, 2, 2)
    real, weak, strong = (clean.clone() for _ in range(3))
    real[:, :, 0, 0], weak[:, :, 1, 1], strong[:, :, 1, 0] = 0.5, 0.2, 1.0
    assert torch.equal(nearest_in_energy(clean, real, [weak]), weak)
    torch.testing.assert_close(nearest_in_energy(clean, real, [weak, strong])[:, :, 1, 0], torch.full((2, 1), 0.5))
    torch.testing.assert_close(energy(nearest_in_energy(clean, real, [strong]), clean), energy(real, clean))


@pytest.mark.parametrize(("name", "grey"), [("black frame", 0.0), ("white frame", 1.0)])
def test_a_frame_is_uniform_and_leaves_the_inside_alone(name, grey):
    images = applied("shortcut.insert-border", cases(), width_share=0.05)[0][name].images
    width = round(0.05 * SIDE)
    assert (images[..., :width, :] == grey).all()
    assert (images[..., :, -width:] == grey).all()
    assert (images[..., width:-width, width:-width] == 0.3).all()


def test_the_shade_has_no_edge():
    shade = vignette((SIDE, SIDE))
    assert (shade.diff(dim=1).abs().max(), shade.diff(dim=2).abs().max()) < (0.05, 0.05)
    assert shade[0, SIDE // 2, SIDE // 2] == 0


def test_a_shutter_is_dark_outside_straight_and_brightens_nothing():
    images = applied("shortcut.insert-collimation", cases((0.0, 0.3)))[0]["8 % per side"].images
    assert images[1, 0, 0].max() < 0.05
    assert images[1, 0, SIDE // 2, SIDE // 2] == torch.tensor(0.3)
    assert (images <= cases((0.0, 0.3)).images).all()


def test_what_changes_nothing_is_not_applicable():
    variants, measurements = applied("shortcut.insert-border", cases((0.0, 0.3)), levels=["black frame"])
    assert variants["black frame"].applicable.tolist() == [False, True]
    assert variants["black frame"].reason == "the image is like this already"
    assert measured(measurements, "change_rms", "black frame").isnan().tolist() == [True, False]


@pytest.mark.parametrize("name", ["catheter", "electrode"])
def test_a_line_is_brighter_connected_and_of_its_width(name):
    from scipy import ndimage

    batch = replace(cases(shape=(320, 320)), spacing_mm=torch.full((4, 2), 1.0))
    images = applied("shortcut.insert-tube", batch, levels=[name])[0][name].images
    for plane in (images[:, 0] - 0.3).numpy():
        ink = plane > 0.1 * plane.max()
        assert ndimage.label(ink, [[1] * 3] * 3)[1] == 1
    widths = (images[:, 0] > 0.4).sum(2).float()
    assert widths[widths > 0].median() <= 5  # 2.3 mm or less at 1 mm per pixel, and slanted


def test_a_wider_tube_covers_more_in_proportion():
    batch = replace(cases(shape=(320, 320)), spacing_mm=torch.full((4, 2), 0.5))
    areas = [
        (
            applied("shortcut.insert-tube", batch, levels=["catheter"], catheter_mm=width)[0]["catheter"].images - 0.3
        ).sum()
        for width in (3.0, 6.0)
    ]
    assert areas[1] / areas[0] == pytest.approx(2.0, abs=0.05)


def test_the_pieces_of_a_line_keep_its_pixels_and_lose_its_form():
    picture = torch.zeros(40, 40)
    picture[5:35, 20] = torch.linspace(0.1, 1, 30)
    picture[30, 5:35] = 0.5
    pieces = scattered(picture, 4, torch.Generator().manual_seed(1))
    assert torch.equal(pieces.flatten().sort().values, picture.flatten().sort().values)
    assert not torch.equal(pieces, picture)
    assert torch.equal(scattered(torch.zeros(9, 9), 4, torch.Generator()), torch.zeros(9, 9))


@pytest.mark.parametrize("id", ["shortcut.insert-marker", "shortcut.insert-tube", "shortcut.insert-collimation"])
def test_what_lies_on_a_projection_is_refused_on_a_volume_and_on_ct(id):
    with pytest.raises(DataError, match=r"expected images of shape \(N, 1, H, W\)"):
        applied(id, cases(shape=(4, 24, 24)))
    with pytest.raises(DataError, match="expected projection radiographs"):
        applied(id, replace(cases(), modality="CT"))


@pytest.mark.parametrize("id", ["shortcut.insert-text", "shortcut.insert-border"])
def test_every_slice_of_a_volume_has_the_same_overlay(id):
    variants, _ = applied(id, replace(cases(shape=(3, SIDE, SIDE)), modality="CT"))
    flat, _ = applied(id, cases())
    for name, variant in variants.items():
        torch.testing.assert_close(variant.images[:, :, 0], flat[name].images)
        assert (variant.images == variant.images[:, :, :1]).all()


def test_images_of_another_space_are_refused():
    with pytest.raises(DataError, match="expected display images"):
        applied("shortcut.insert-text", replace(cases(), space=Space.PHYSICAL))


@pytest.mark.parametrize(
    ("id", "options"),
    [
        ("shortcut.insert-marker", {"height_share": 0.5}),
        ("shortcut.insert-marker", {"attenuation_decades": 0.0}),
        ("shortcut.insert-text", {"words": "12:30"}),
        ("shortcut.insert-text", {"words": " "}),
        ("shortcut.insert-border", {"width_share": 0.0}),
        ("shortcut.insert-collimation", {"shutter_value": 2.0}),
        ("shortcut.insert-tube", {"catheter_mm": -1.0}),
        ("shortcut.border-ablation", {"ring_share": 0.6}),
        ("shortcut.border-ablation", {"feather_share": -0.1}),
        ("shortcut.remove-markers", {"contrast": 0.0}),
    ],
)
def test_an_option_without_meaning_is_refused_by_name(id, options):
    with pytest.raises(PlanError, match=next(iter(options))):
        entry(id).load().from_options(options)
