"""An atlas: one mask for all cases, laid over images of its size, of its aspect ratio, or over the model's input."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from robustbench_rad.atlas import Atlas, laid_back, read_atlas
from robustbench_rad.cases import read_cases, require_readable
from robustbench_rad.classifier import InputSpec, Resize
from robustbench_rad.errors import PlanError
from robustbench_rad.evaluation.batches import Batches
from robustbench_rad.masks import resize_mask
from robustbench_rad.misfits import Misfit, misfit_message, misfit_summary
from robustbench_rad.pairing import CaseSet
from robustbench_rad.profile import effective_profile, read_profile

DRAWN = np.zeros((8, 8), np.uint8)
DRAWN[2:6, 1:4] = 255  # 12 pixels


def atlas(mask, size=(8, 8), resize=Resize.STRETCH):
    spec = InputSpec(size=size, resize=resize)
    return Atlas(sha256="0", mask=torch.from_numpy(np.asarray(mask) > 0)[None], spec=spec)


@pytest.fixture
def films(tmp_path, write_image, plan_for):
    """Films of these sizes and an atlas; returns the plan."""

    def make(sizes, drawn=DRAWN, *, size=(8, 8), name="atlas.png", **data):
        write_image(drawn, "atlas.png")
        for row, shape in enumerate(sizes):
            write_image(np.full(shape, 9 * row, np.uint8), f"{row}.png")
        rows = [f"{row}.png,{row % 2}" for row in range(len(sizes))]
        (tmp_path / "test.csv").write_text("\n".join(["image,effusion", *rows]) + "\n")
        return plan_for({"anatomy": {"atlas": name}, **data}, size=size)

    return make


def test_an_atlas_of_the_size_of_the_image_is_used_as_it_is():
    assert torch.equal(atlas(DRAWN, size=(5, 5)).on((8, 8)), torch.from_numpy(DRAWN > 0)[None])


def test_an_atlas_of_the_same_aspect_ratio_is_brought_to_the_image_by_nearest_neighbour():
    fitted = atlas(DRAWN, size=(5, 5)).on((24, 24))
    np.testing.assert_array_equal(fitted[0].numpy(), np.kron(DRAWN, np.ones((3, 3))) > 0)


def test_an_atlas_of_the_models_input_is_laid_over_what_the_model_is_shown_of_an_image_of_any_size():
    wide = atlas(DRAWN).on((8, 16))
    np.testing.assert_array_equal(wide[0].numpy(), np.kron(DRAWN, np.ones((1, 2))) > 0)
    cropped = atlas(DRAWN, resize=Resize.CROP).on((8, 16))
    np.testing.assert_array_equal(cropped[0].numpy(), np.pad(DRAWN > 0, ((0, 0), (4, 4))))
    padded = atlas(DRAWN, resize=Resize.PAD).on((4, 8))  # rows 2 to 5 of the input
    np.testing.assert_array_equal(padded[0].numpy(), DRAWN[2:6] > 0)


def test_an_atlas_of_neither_size_is_a_misfit_that_names_all_three():
    misfit = atlas(DRAWN, size=(5, 5)).on((8, 12))
    assert misfit == Misfit(expected=(8, 12), got=(8, 8), at_input=(5, 5))
    assert "the image, 8 × 12, of its aspect ratio, or of the size of the model's input, 5 × 5, got 8 × 8" in str(
        misfit
    )


def test_an_atlas_of_a_volume_is_laid_back_in_three_axes():
    mask = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    mask[:, 1, :2] = True
    volume = Atlas(sha256="0", mask=mask, spec=InputSpec(size=(2, 4, 4)))
    expected = torch.zeros(1, 4, 4, 8, dtype=torch.bool)
    expected[:, 2:, :2] = True
    assert torch.equal(volume.on((4, 4, 8)), expected)
    assert isinstance(Atlas(sha256="0", mask=mask, spec=InputSpec(size=(3, 4, 4))).on((4, 4, 8)), Misfit)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(list(Resize)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 16), st.integers(1, 16)),
)
def test_the_place_where_a_row_or_column_is_shown_shows_it(resize, shape, size):
    """The oracle: an image of its own row (column) numbers, brought to the input as images are."""
    spec = InputSpec(size=size, resize=resize, antialias=False)
    spacing = spec.display_spacing((1.0, 1.0), shape)
    places = spec.display_places(shape)
    seen = [(own >= 0) & (own < side) for own, side in zip(places, size, strict=True)]
    assume(all(bool(own.any()) for own in seen))  # no centre may be shown where a few enlarged pixels are cropped
    for axis, own in enumerate(places):
        numbers = torch.arange(shape[axis], dtype=torch.float32)
        image = numbers.reshape([-1 if n == axis else 1 for n in range(2)]).expand(shape)
        other = int(places[1 - axis][seen[1 - axis]][0])
        line = spec.resized(image[None, None])[0, 0].select(1 - axis, other)
        off = (line[own[seen[axis]]] - numbers[seen[axis]]).abs()
        assert float(off.max()) <= 0.75 * spacing[axis] + 1e-3
        assert bool((own.diff() >= 0).all())


@pytest.mark.parametrize("resize", list(Resize))
@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_what_is_laid_back_and_shown_again_is_the_atlas(resize, times):
    spec = InputSpec(size=(12, 12), resize=resize)
    mask = torch.zeros(1, 12, 12, dtype=torch.bool)
    mask[:, 3:9, 2:7] = True
    mask[:, 5, 10] = True
    assert torch.equal(resize_mask(laid_back(mask, (12 * times, 12 * times), spec), spec), mask)
    if resize is Resize.STRETCH:
        assert torch.equal(resize_mask(laid_back(mask, (12 * times, 24), spec), spec), mask)


def test_at_the_models_input_the_atlas_is_the_same_for_images_of_all_sizes(films, lab_classifier):
    plan = films([(8, 8), (8, 12), (31, 17), (64, 64), (3, 5)])
    table = require_readable(read_cases(plan), "fail")
    cases = [table.load(row) for row in range(len(table))]
    assert [tuple(case.anatomy.shape) for case in cases] == [tuple(case.image.shape) for case in cases]
    shown = batches(lab_classifier(plan)).display(cases).anatomy
    assert all(torch.equal(mask[0], torch.from_numpy(DRAWN > 0)) for mask in shown)
    assert table.misfits == {}


def test_a_large_atlas_is_brought_to_the_input_once_and_as_the_masks_of_cases_are(films, lab_classifier):
    large = np.kron(DRAWN, np.ones((5, 5), np.uint8))
    plan = films([(40, 40), (16, 16), (80, 80)], large)
    table = read_cases(plan)
    cases = [table.load(row) for row in range(3)]
    shown = batches(lab_classifier(plan)).display(cases).anatomy
    expected = resize_mask(torch.from_numpy(large > 0)[None], table.atlas.spec)
    assert all(torch.equal(mask, expected) for mask in shown)
    np.testing.assert_array_equal(cases[2].anatomy[0].numpy(), np.kron(large, np.ones((2, 2))) > 0)


@pytest.fixture
def lab_classifier():
    from torch import nn

    from robustbench_rad.classifier import Classifier
    from robustbench_rad.loading import head_spec, input_spec

    def make(plan):
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        return Classifier(module=module, input=input_spec(plan.model.input), head=head_spec(plan.model))

    return make


def batches(classifier):
    return Batches(classifier=classifier, modality="DX", seed=0, batch_size=8)


def test_a_case_that_the_atlas_does_not_fit_goes_on_without_a_mask_and_is_counted(films):
    table = read_cases(films([(8, 8), (8, 12), (16, 16)], size=(5, 5)))
    assert [table.load(row).anatomy is None for row in range(3)] == [False, True, False]
    assert table.load(1).anatomy_at_input is None
    said = misfit_summary(table.misfits, 3)
    assert said.startswith("the atlas, 8 × 8, fits the images of 2 of 3 cases; the others are taken for cases without")
    assert "draw the atlas at the size of the model's input, 5 × 5" in said
    assert "Sizes of the others: 8 × 12 (1)." in said
    assert "those of the other cases" in said
    assert "E.g. case 1.png: 1.png: expected an atlas of the size of the image" in misfit_message(table)


def test_a_table_with_an_atlas_travels_to_worker_processes(films):
    table = read_cases(films([(8, 8), (8, 12)]))
    again = pickle.loads(pickle.dumps(table))
    assert torch.equal(again.load(1).anatomy, table.load(1).anatomy)
    assert require_readable(read_cases(films([(8, 8), (8, 12)])), "fail", workers=2).digest == table.digest


def test_the_atlas_is_part_of_the_identity_of_the_data_by_its_content_and_not_by_its_name(films, write_image, tmp_path):
    plan = films([(8, 8), (8, 8)])
    first = read_cases(plan)
    (tmp_path / "atlas.png").rename(tmp_path / "other.png")
    moved = read_cases(films([(8, 8), (8, 8)], name="other.png"))
    assert (moved.digest, CaseSet.of(moved).sha256) == (first.digest, CaseSet.of(first).sha256)
    write_image(255 - DRAWN, "atlas.png")
    changed = read_cases(plan)
    assert changed.digest != first.digest
    assert CaseSet.of(changed).sha256 != CaseSet.of(first).sha256
    none = read_cases(plan.model_copy(update={"data": plan.data.model_copy(update={"anatomy": None})}))
    assert none.digest not in (first.digest, changed.digest)
    assert none.load(0).anatomy is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.png", "no such mask file"),
        ("", "no such mask file"),
        ("damaged.png", "cannot be decoded"),
        ("text.png", "cannot be decoded"),
        ("empty.npy", "the atlas is empty"),
        ("full.npy", "the atlas covers 100% of the image"),
        ("volume.npy", r"expected a plane of rows × columns, got 3 axes: 3 × 8 × 8"),
        ("line.npy", r"expected a plane of rows × columns, got 1 axis: 8"),
    ],
)
def test_a_file_that_is_no_atlas_is_an_error_of_the_plan_that_names_key_file_and_what_is_expected(
    films, tmp_path, name, said
):
    plan = films([(8, 8)], name=name)
    content = (tmp_path / "atlas.png").read_bytes()
    (tmp_path / "damaged.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("no picture")
    np.save(tmp_path / "empty.npy", np.zeros((8, 8)))
    np.save(tmp_path / "full.npy", np.ones((8, 8)))
    np.save(tmp_path / "volume.npy", np.tile(DRAWN, (3, 1, 1)))
    np.save(tmp_path / "line.npy", DRAWN[3])
    with pytest.raises(PlanError, match=said) as caught:
        read_cases(plan)
    assert caught.value.message.startswith(f"data.anatomy.atlas = {name!r}: {plan.path(name)}")
    assert "one mask for all cases (PNG, TIFF, NPY, NPZ or NIfTI), not 0 inside" in caught.value.hint


def test_a_plane_is_no_atlas_of_volumes(films):
    with pytest.raises(PlanError, match=r"expected slices × rows × columns, got 2 axes: 8 × 8"):
        read_atlas(films([(8, 8)], size=(8, 8, 8)), volumes=True)


def test_a_volume_is_an_atlas_of_volumes(films, tmp_path):
    np.save(tmp_path / "atlas.npy", np.tile(DRAWN, (4, 1, 1)))
    found = read_atlas(films([(8, 8)], size=(2, 8, 8), name="atlas.npy"), volumes=True)
    assert found.size == (4, 8, 8)
    assert found.at_input.shape == (1, 2, 8, 8)
    assert torch.equal(found.at_input[0, 1], torch.from_numpy(DRAWN > 0))
    assert torch.equal(found.on((4, 8, 8)), found.mask)


def test_without_an_atlas_none_is_read(small_set, plan_for):
    assert read_atlas(small_set, volumes=False) is None
    assert read_atlas(plan_for(), volumes=False) is None


ITEMS = """
import numpy as np
class Items(list): pass
def make():
    own = np.zeros((8, 8), bool)
    own[:2] = True
    return Items({"image": np.full((8, 8), 9 * row, np.uint8), "labels": row % 2, "anatomy": own} for row in range(2))
"""


def test_what_the_plan_declares_stands_for_the_masks_that_items_of_a_data_set_bring(films, plan_for, tmp_path):
    films([])
    (tmp_path / "items.py").write_text(ITEMS)
    data = {"source": "factory", "factory": "items.py:make", "manifest": None}
    with_atlas = read_cases(plan_for({**data, "anatomy": {"atlas": "atlas.png"}}))
    assert int(with_atlas.load(0).anatomy.sum()) == 12
    assert int(read_cases(plan_for(data)).load(0).anatomy.sum()) == 16


def test_a_check_that_needs_masks_is_part_of_an_audit_with_an_atlas(films):
    plan = films([(8, 8)]).model_copy(update={"profile": "standard"})
    profile = effective_profile(plan, read_profile("standard", base=plan.base))
    assert profile.check("shortcut.background-swap") is not None
