"""Finding markers on many planes at once: the same masks, bit for bit, as one component after the other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional

from robustbench_rad.glyphs import text_picture
from robustbench_rad.planted.defects import DEFECTS, with_defect
from robustbench_rad.planted.phantoms import phantoms
from robustbench_rad.shortcuts._beside import Search, _rims, _top_hat, _upper_quartiles, marker_masks

SQUARE = np.ones((3, 3), dtype=bool)


def plain_masks(images: torch.Tensor, anatomy: torch.Tensor | None, search: Search) -> torch.Tensor:
    """The same search with a loop over planes and components, in the words of its description."""
    side = min(images.shape[-2:])
    bright = plain_top_hat(images, 2 * max(round(search.stroke * side / 2), 1) + 1)
    found = np.zeros(images.shape, dtype=bool)
    for row, image in enumerate(images[:, 0].numpy()):
        organ = np.zeros(image.shape, dtype=bool) if anatomy is None else anatomy[row, 0].numpy()
        organ = organ if organ.mean() <= 0.5 else np.zeros_like(organ)
        for factor in (1.0, 1.5, 2.0):
            ink = (bright[row, 0] >= search.contrast * factor).numpy() & (images[row, 0] >= search.brightness).numpy()
            grown = ndimage.binary_dilation(ink, SQUARE, iterations=max(round(0.012 * side), 1))
            for joined in (ink, grown):
                names, count = ndimage.label(joined, SQUARE)
                for name in range(1, count + 1):
                    part = (names == name) & ink
                    if plain_place(part, search) and not (part & organ).any():
                        rim = part & ~ndimage.binary_erosion(part)
                        found[row, 0] |= part & (np.quantile(plain_jumps(image)[rim], 0.75) >= search.steepness)
    return torch.from_numpy(found)


def plain_top_hat(images: torch.Tensor, size: int) -> torch.Tensor:
    half = size // 2
    eroded = -functional.max_pool2d(-functional.pad(images, (half,) * 4, mode="replicate"), size, 1)
    return images - functional.max_pool2d(functional.pad(eroded, (half,) * 4, value=-1.0), size, 1)


def plain_jumps(image: np.ndarray) -> np.ndarray:
    padded = np.pad(image, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.max([np.abs(image - other) for other in beside], axis=0)


def plain_place(part: np.ndarray, search: Search) -> bool:
    side, (all_rows, all_columns) = min(part.shape), part.shape
    rows, columns = np.nonzero(part)
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    long, short = max(height, width) / side, min(height, width) / side
    if not (search.least <= long <= search.longest and 0.4 * search.least <= short <= search.tallest):
        return False
    if long > search.tallest and len(rows) < 0.15 * height * width:
        return False
    if min(top, left, all_rows - top - height, all_columns - left - width) <= 0 and long > 5 * short:
        return False
    down, across = (top + height / 2) / all_rows, (left + width / 2) / all_columns
    return min(down, across, 1 - down, 1 - across) <= search.border


def marked_phantoms(defect: str, cases: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    made = phantoms(cases, 11)
    images = np.clip(with_defect(made, DEFECTS[defect], np.arange(cases) % 2 == 0), 0, 1)
    return torch.from_numpy(images)[:, None], torch.from_numpy(made.anatomy)[:, None]


def lettered_films(height: int, width: int, cases: int = 6) -> torch.Tensor:
    """Grey films with a ramp, noise, words at random places and sizes, wires, and a bright line along a border."""
    source = torch.Generator().manual_seed(height)
    films = torch.linspace(0.1, 0.5, width).expand(cases, height, width).clone()
    films += 0.05 * torch.randn(cases, height, width, generator=source)
    for film in films:
        for word in ("L", "PORTABLE", "R"):
            picture = text_picture(word)
            tall = int(torch.randint(5, height // 6, (1,), generator=source))
            wide = min(max(tall * picture.shape[1] // picture.shape[0], 2), width - 2)
            drawn = functional.interpolate(picture[None, None], (tall, wide), mode="area")[0, 0]
            top, left = (int(torch.randint(0, room, (1,), generator=source)) for room in (height - tall, width - wide))
            film[top : top + tall, left : left + wide] += 0.6 * drawn
        film[:, 1] = 0.9
        film[height // 2] += 0.7
    return films.clamp(0, 1)[:, None]


@pytest.mark.parametrize("defect", ["corner marker", "burned-in text", "collimation", "kernel"])
def test_the_masks_of_a_batch_are_those_of_one_component_after_the_other(defect):
    images, anatomy = marked_phantoms(defect)
    for search in (Search(), Search(contrast=0.1, steepness=0.15, brightness=0.3, border=0.5)):
        expected = plain_masks(images, anatomy, search)
        assert torch.equal(marker_masks(images, anatomy, search), expected)
    assert expected.flatten(1).any(1).float().mean() > 0.2


@pytest.mark.parametrize(("height", "width"), [(96, 120), (130, 97)])
def test_letters_words_wires_and_edges_on_films_of_any_shape_are_told_apart_as_before(height, width):
    images = lettered_films(height, width)
    organs = torch.zeros_like(images, dtype=torch.bool)
    organs[::2, :, height // 4 : height // 2, : width // 3] = True
    organs[1] = True  # an outline of the body
    for anatomy in (None, organs):
        expected = plain_masks(images, anatomy, Search())
        assert expected.any()
        assert torch.equal(marker_masks(images, anatomy, Search()), expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.02, 0.6), steepness=st.floats(0.05, 0.9))
def test_the_masks_of_random_dots_are_those_of_one_component_after_the_other(seed, share, steepness):
    source = torch.Generator().manual_seed(seed)
    dots = (torch.rand(3, 1, 30, 41, generator=source) < share) * torch.rand(3, 1, 30, 41, generator=source)
    search = replace(Search(), steepness=steepness, least=0.03, tallest=0.4, brightness=0.2, border=0.4, stroke=0.1)
    assert torch.equal(marker_masks(dots, None, search), plain_masks(dots, None, search))


def test_empty_and_full_planes_between_others_hold_nothing_and_keep_them_apart():
    images, _ = marked_phantoms("corner marker", 6)
    images[1], images[3] = 0.0, 1.0
    found = marker_masks(images, None, Search())
    assert not found[[1, 3]].any()
    assert torch.equal(found, plain_masks(images, None, Search()))
    assert not marker_masks(images[[1, 3]], None, Search()).any()


def test_ink_at_the_end_of_a_plane_does_not_join_that_at_the_start_of_the_next():
    images = torch.zeros(2, 1, 60, 60)
    images[0, :, 53:60, 4:7] = 1.0
    images[1, :, 0:7, 4:7] = 1.0
    search = Search(tallest=0.12, longest=0.12, stroke=0.1)
    assert marker_masks(images, None, search).sum() == 42
    assert torch.equal(marker_masks(images, None, search), plain_masks(images, None, search))


@pytest.mark.parametrize(("length", "found"), [(9, True), (11, False)])
def test_a_bar_on_the_outermost_line_is_an_edge_once_it_is_five_times_as_long_as_wide(length, found):
    images = torch.zeros(1, 1, 100, 100)
    images[..., 30 : 30 + length, 98:] = 1.0
    assert bool(marker_masks(images, None, Search()).any()) == found
    assert torch.equal(marker_masks(images, None, Search()), plain_masks(images, None, Search()))


@pytest.mark.parametrize("size", [3, 5, 9, 13])
def test_the_top_hat_is_the_image_minus_its_opening(size):
    images = torch.rand(2, 1, 31, 40, generator=torch.Generator().manual_seed(size))
    assert torch.equal(_top_hat(images, size), plain_top_hat(images, size))


def test_a_rim_is_what_an_erosion_by_a_cross_takes_away():
    ink = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0)).numpy() < 0.8
    expected = np.stack([plane & ~ndimage.binary_erosion(plane) for plane in ink])
    np.testing.assert_array_equal(_rims(ink), expected)


def test_upper_quartiles_of_groups_are_those_of_numpy():
    rng = np.random.default_rng(0)
    names, values = rng.integers(1, 60, 400), rng.random(400)
    own, quartiles = _upper_quartiles(names, values)
    np.testing.assert_array_equal(own, np.unique(names))
    np.testing.assert_array_equal(quartiles, [np.quantile(values[names == name], 0.75) for name in own])
