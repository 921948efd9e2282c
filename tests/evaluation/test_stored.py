"""Stored space: the native grid of the file, seen by the model through windowing and resizing, and kept by the file."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robustbench_rad.cases import read_cases
from robustbench_rad.classifier import InputSpec, Resize
from robustbench_rad.conditions import Applied, Condition, Level, Space, Unit, Variant
from robustbench_rad.stored import Grid, stored_view

CT = InputSpec(size=(6, 6), window_hu=(-1000.0, 400.0))
FILM = InputSpec(size=(6, 6), range=(0.0, 255.0))


def stored(bench, cases):
    (batch,) = bench.batches(Space.STORED, cases)
    return batch


@pytest.mark.parametrize(("bits", "limits"), [(8, (-1024, 3071)), (12, (-1024, 3071)), (16, (-1024, 64511))])
def test_one_grey_level_of_ct_is_one_hounsfield_unit(lab, bits, limits):
    batch = stored(lab.evaluator(CT), lab.slices(bits=bits))
    assert batch.limits == limits
    assert batch.limits_unit is Unit.HU
    assert batch.unit is None
    assert batch.stored_bits == max(bits, 12)
    hu = torch.stack([item.image for item in lab.slices()])
    torch.testing.assert_close(batch.images * (limits[1] - limits[0]) + limits[0], hu, rtol=0, atol=0.01)
    assert batch.on_grid == (True, True, True)


def test_a_radiograph_has_its_declared_range(lab):
    batch = stored(lab.evaluator(FILM), lab.films())
    assert (batch.limits, batch.limits_unit, batch.stored_bits) == ((0.0, 255.0), Unit.SIGNAL, 8)
    torch.testing.assert_close(batch.images, torch.stack([item.image for item in lab.films()]) / 255)


def test_values_beyond_the_storage_range_are_left_as_they_are(lab):
    image = torch.full((1, 12, 12), -3024.0)
    image[0, 0, :2] = torch.tensor([40.0, 5000.0])
    bench = lab.evaluator(CT)
    batch = stored(bench, [lab.case("a", image, unit=Unit.HU, bits=12)])
    assert batch.images[0, 0, 5, 5] < 0
    assert batch.images[0, 0, 0, 1] > 1
    assert torch.equal(Grid(limits=batch.limits, bits=12).physical(batch.images)[0], image)


def test_images_that_are_no_grey_levels_are_said(lab):
    whole, half = lab.slices(2)
    batch = stored(lab.evaluator(CT), [whole, replace(half, image=half.image + 0.5)])
    assert batch.on_grid == (True, False)
    assert batch.select(torch.tensor([1])).on_grid == (False,)
    assert lab.evaluator(CT).display_batch([whole]).on_grid == ()


def test_masks_are_native_and_batches_are_of_one_shape_and_depth(lab):
    cases = [
        *lab.films(2, anatomy=lab.square(), lesion=lab.square(last=3)),
        *lab.films(1, shape=(1, 20, 10)),
        replace(lab.films(1)[0], stored_bits=16),
    ]
    batches = list(lab.evaluator(FILM).batches(Space.STORED, cases))
    assert [tuple(batch.images.shape) for batch in batches] == [(2, 1, 12, 12), (1, 1, 20, 10), (1, 1, 12, 12)]
    assert [batch.stored_bits for batch in batches] == [8, 8, 16]
    assert torch.equal(batches[0].anatomy[0], lab.square())
    assert torch.equal(batches[0].lesion[0], lab.square(last=3))
    assert batches[0].lesion_known == (True, True)


@pytest.mark.parametrize(
    ("spec", "kind", "shape"),
    [
        (FILM, "films", (1, 12, 12)),
        (CT, "slices", (1, 12, 12)),
        (replace(CT, resize=Resize.PAD, size=(7, 5)), "slices", (1, 20, 9)),
        (InputSpec(size=(3, 5, 4), window_hu=(-160.0, 240.0)), "slices", (1, 7, 9, 6)),
    ],
    ids=["film", "ct", "padded", "volume"],
)
def test_the_model_sees_stored_images_as_it_sees_the_display(lab, spec, kind, shape):
    cases = getattr(lab, kind)(shape=shape)
    bench = lab.evaluator(spec, module=lab.Curved())
    batch = stored(bench, cases)
    query = bench.query.through(stored_view(batch, bench.classifier))
    assert torch.equal(query.margins(batch.images), bench.query.margins(bench.display_batch(cases).images))


@pytest.mark.parametrize(
    "spec", [CT, replace(CT, interpolation="bicubic"), InputSpec(size=(20, 18), range=(-1.0, 1.0))]
)
def test_gradients_reach_the_native_pixels(lab, spec):
    """Autograd through window and resize against central differences, in float64."""
    generator = torch.Generator().manual_seed(3)
    ct = spec.window_hu is not None
    grid = Grid.of(Unit.HU if ct else Unit.SIGNAL, 12, declared=spec.limits)
    low, high = grid.limits
    physical = torch.rand(2, 1, 11, 9, generator=generator) * (300 if ct else 0.8) - (200 if ct else 0.4)
    physical[0, 0, 0, 0] = high if ct else 0.3  # beyond the window of the CT: no gradient there
    unit = Unit.HU if ct else Unit.SIGNAL
    bench = lab.evaluator(spec, module=lab.Curved(), rows=1)
    batch = stored(bench, [lab.case(f"c{row}", image, unit=unit, bits=12) for row, image in enumerate(physical)])
    query = bench.query.through(stored_view(batch, bench.classifier))
    _, gradient = query.margins_and_gradient(batch.images, torch.ones(2, 1))
    assert gradient.shape == batch.images.shape

    def margin(images):  # without the snap to grey levels, whose steps are no slope
        windowed = ((low + images * (high - low) - spec.limits[0]) / (spec.limits[1] - spec.limits[0])).clamp(0, 1)
        return bench.classifier.module(spec.resized(windowed).clamp(0, 1))[:, 0]

    step, images = 1e-6, batch.images.double()
    for row, y, x in [(0, 0, 0), (0, 5, 4), (1, 10, 8), (1, 3, 0)]:
        moved = torch.zeros_like(images)
        moved[row, 0, y, x] = step
        slope = (margin(images + moved) - margin(images - moved))[row] / (2 * step)
        torch.testing.assert_close(gradient[row, 0, y, x].double(), slope, rtol=2e-4, atol=1e-4)
    assert not ct or gradient[0, 0, 0, 0] == 0
    assert (gradient != 0).float().mean() > 0.9


def test_a_view_of_a_view(lab):
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    query = lab.evaluator(FILM).query
    both = query.through(lambda x: x + 1).through(lambda x: x * 2)  # first doubled, then raised
    torch.testing.assert_close(both.margins(images), query.margins(images * 2 + 1))


def test_a_query_through_a_view_counts_and_halves_with_its_parent(lab):
    class Small(nn.Module):
        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return x.flatten(1).mean(1, keepdim=True)

    bench = lab.evaluator(FILM, module=Small(), rows=5)
    query = bench.query.through(lambda images: images / 2)
    images = torch.rand(5, 1, 6, 6)
    torch.testing.assert_close(query.margins(images)[:, 0], images.mean((1, 2, 3)) / 2)
    _, gradient = query.margins_and_gradient(images[:3], lambda margins, rows: torch.ones_like(margins))
    torch.testing.assert_close(gradient, torch.full_like(gradient, 1 / 72))
    assert (bench.query.forwards, bench.query.backwards, bench.query.rows) == (8, 3, 2)
    bench.query.margins(images[:1])
    assert query.forwards == 9


def test_large_images_are_seen_few_at_a_time(lab, monkeypatch):
    asked = []

    class Asked(lab.Mean):
        def forward(self, x):
            asked.append(len(x))
            return super().forward(x)

    monkeypatch.setattr("robustbench_rad.query.MOST_PIXELS", 3 * 12 * 12)
    bench = lab.evaluator(FILM, module=Asked())
    batch = stored(replace(bench, batch_size=8), lab.films(7))
    query = bench.query.through(stored_view(batch, bench.classifier))
    margins = query.margins(batch.images)
    assert asked == [3, 3, 1]
    assert torch.equal(bench.query.margins(bench.display_batch(lab.films(7)).images), margins)
    assert asked == [3, 3, 1, 7]  # images of the model's own size are not held back
    query.margins(torch.zeros(2, 1, 300, 300))
    assert asked[4:] == [1, 1]


@dataclass(frozen=True, kw_only=True)
class Brighter(Condition):
    """Adds ten grey levels in stored space; margins by its own query, or images for the pass to score."""

    levels: tuple[Level, ...] = (Level(name="10", value=10.0, unit="grey levels"),)
    by_query: bool = True

    def apply(self, batch, query, state):
        del state
        grid = Grid(limits=batch.limits, bits=batch.stored_bits)
        images = grid.rounded(batch.images + 10 / grid.highest)
        found = {"margins": query.margins(images)} if self.by_query else {"images": images}
        return Applied(variants=iter([Variant(level=self.levels[0], **found)]))


Brighter.id, Brighter.version, Brighter.space = "test.brighter", 1, Space.STORED


@pytest.mark.parametrize("by_query", [True, False])
def test_a_condition_in_stored_space_is_scored_through_the_view(lab, by_query):
    """Values up to 200 of 255, so that ten grey levels are ten: 20 × 10/255 log-odds of a mean."""
    cases = [replace(item, image=(item.image * 200 / 255).round()) for item in lab.films()]
    cases.append(replace(lab.case("c3", torch.full((1, 8, 8), 100.0)), stored_bits=8))
    chunk = lab.evaluator(FILM, conditions=[Brighter(by_query=by_query)]).chunk(cases)
    margins = {column.condition: chunk.margins[:, i] for i, column in enumerate(chunk.columns)}
    np.testing.assert_allclose(margins["test.brighter"] - margins["clean"], 20 * 10 / 255, atol=1e-4)
    assert not chunk.quantities


@settings(max_examples=40, deadline=None)
@given(
    bits=st.sampled_from([1, 8, 10, 12, 16]),
    limits=st.sampled_from([(0.0, 1.0), (0.0, 255.0), (-1024.0, 1024.0), (-1.0, 1.0), (0.1, 0.7)]),
    seed=st.integers(0, 10**6),
)
def test_a_rounded_image_is_to_the_bit_what_the_reader_makes_of_its_grey_levels(bits, limits, seed):
    from robustbench_rad.data.images import ReadOptions

    grid = Grid(limits=limits, bits=bits)
    images = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    rounded = grid.rounded(images)
    levels = grid.levels(images).numpy().astype(np.uint16)
    expected = ReadOptions(limits=limits).from_signal(levels / np.float64(2**bits - 1))
    assert np.array_equal(grid.physical(rounded).numpy(), expected)
    assert grid.holds(rounded).all()
    assert torch.equal(grid.rounded(rounded), rounded)
    # grey levels divided in float32 are taken for the same levels
    single = grid.levels(images).float() / grid.highest
    assert np.array_equal(grid.physical(single).numpy(), expected)


@pytest.mark.parametrize("kind", ["png8", "png16", "dicom", "inverted", "ct", "ct16"])
def test_a_rounded_image_survives_its_file(lab, kind, tmp_path, write_image, write_dicom, plan_for):
    """Perturb on the native grid, round, write as the file was written, read with our readers: the same margins."""
    ct, bits = kind.startswith("ct"), {"png8": 8, "png16": 16, "ct16": 16}.get(kind, 12)
    rng = np.random.default_rng(2)

    def write(levels, name):  # grey levels 0 to 2^bits - 1 of the stored grid
        if kind.startswith("png"):
            return write_image(levels.astype(np.uint8 if bits == 8 else np.uint16), f"{name}.png")
        if not ct:
            photometric = "MONOCHROME1" if kind == "inverted" else "MONOCHROME2"
            levels = 2**bits - 1 - levels if kind == "inverted" else levels
            dicom = {"BitsStored": bits, "PhotometricInterpretation": photometric}
            return write_dicom(levels.astype(np.uint16), f"{name}.dcm", **dicom)
        # stored = HU - intercept: unsigned with intercept -1024, or signed with intercept 0
        signed = kind == "ct16"
        values = (levels - 1024).astype(np.int16) if signed else levels.astype(np.uint16)
        rescale = {"RescaleSlope": 1, "RescaleIntercept": 0 if signed else -1024, "BitsStored": bits}
        return write_dicom(values, f"{name}.dcm", Modality="CT", SOPInstanceUID=f"1.2.{len(name)}", **rescale)

    def read(path):
        (tmp_path / "test.csv").write_text(f"image,effusion\n{path.name},1\n")
        options = {"limits": (0.0, 255.0)} if not ct else {}
        return read_cases(plan_for({"modality": "CT"} if ct else {}, **options)).load(0)

    clean = read(write(rng.integers(100, 230 if bits == 8 else 3000, (17, 13)), "clean"))
    bench = lab.evaluator(CT if ct else FILM, module=lab.Curved())
    batch = stored(bench, [clean])
    assert batch.on_grid == (True,)
    assert batch.stored_bits == bits
    grid = Grid(limits=batch.limits, bits=batch.stored_bits)
    noise = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(5))
    altered = grid.rounded(batch.images + 20 / grid.highest * noise)
    query = bench.query.through(stored_view(batch, bench.classifier))
    again = read(write(grid.levels(altered)[0, 0].numpy(), "altered"))
    before, after = query.margins(altered), bench.query.margins(bench.display_batch([again]).images)
    assert torch.equal(before, after)
    assert not torch.equal(after, query.margins(batch.images))
