"""Shifts that can be differentiated by their level: the same images as at the levels, and the slope they really have."""

from dataclasses import dataclass, field, replace

import pytest
import torch

from robustbench_rad.conditions import Batch, Space, Unit
from robustbench_rad.continuous import Continuous, linearised, unchanged_value
from robustbench_rad.registry import catalogue, entry
from robustbench_rad.seeds import derive_seed

CASES = 3


def batch_of(images, unit, modality, spacing, **more):
    names = tuple(f"case-{row}" for row in range(len(images)))
    return Batch(
        images=images,
        labels=torch.ones(len(images), 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(3, name) for name in names),
        space=Space.PHYSICAL,
        unit=unit,
        modality=modality,
        spacing_mm=torch.tensor([spacing] * len(images)),
        **more,
    )


def smooth(height=48, width=40, cases=CASES):
    """Bright bodies with soft edges and some structure, 0 to 1."""
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    shifts = torch.linspace(-0.1, 0.1, cases)[:, None, None]
    body = torch.sigmoid(12 * (0.75 - ((rows - shifts) ** 2 + columns**2).sqrt()))
    return (body * (0.7 + 0.2 * torch.sin(7 * rows + 5 * columns)))[:, None]


def texture(images):
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def radiographs(modality="DX"):
    images = 0.15 + 0.7 * smooth() + 0.01 * texture(smooth())
    return batch_of(images, Unit.SIGNAL, modality, (0.8, 0.7))


def ct():
    body = smooth()
    images = -1000 + 1040 * (body > 0.2) + 30 * body + 12 * texture(body)
    names = ({"ConvolutionKernel": "STANDARD"}, {"ConvolutionKernel": "LUNG"}, {"ConvolutionKernel": "STANDARD"})
    return batch_of(images, Unit.HU, "CT", (6.0, 6.0), metadata=names)


def ct_volume():
    images = -1000 + 1100 * torch.stack([smooth()] * 12, 2) * torch.linspace(0.5, 1, 12)[:, None, None].cos()
    thick = ({"SliceThickness": "1"}, {"SliceThickness": "1"}, {"SliceThickness": "2"})
    return batch_of(images + 5 * texture(images), Unit.HU, "CT", (1.0, 0.8, 0.8), attributes=thick)


def mr():
    images = smooth() + 0.01 * texture(smooth()).abs()
    return batch_of(images, Unit.MAGNITUDE, "MR", (1.0, 1.0))


def ultrasound():
    return batch_of(0.2 + 0.6 * smooth(), Unit.SIGNAL, "US", (0.5, 0.5))


@dataclass(frozen=True)
class Row:
    """A shift, and levels of its cases in general position."""

    id: str
    batch: object
    values: tuple[float, float, float]
    options: dict = field(default_factory=dict)
    step: float = 0.01  # of the value, for the slope
    tolerance: float = 0.02

    def made(self, values=()):
        return entry(self.id).load().from_options({**self.options, "levels": sorted({*self.values, *values})})


ROWS = [
    Row("shift.ct.dose", ct, (0.7, 0.35, 0.25)),
    Row("shift.ct.dose-image", ct, (0.7, 0.35, 0.25)),
    Row("shift.ct.kernel", ct, (0.7, 1.2, 1.3)),
    Row("shift.ct.slice-thickness", ct_volume, (2.3, 3.4, 4.2)),
    Row("shift.ct.slice-thickness", ct_volume, (2.3, 3.3, 4.3), {"contiguous": True}, step=0.001),
    Row("shift.ct.hu-calibration", ct, (-5.0, 3.0, 20.0)),
    Row("shift.geometry.rotate", radiographs, (2.0, -4.0, 9.0)),
    Row("shift.geometry.translate", ct, (2.3, 4.1, 7.7)),
    Row("shift.geometry.scale", mr, (0.93, 1.04, 1.2), step=0.002),
    Row("shift.xr.dose", radiographs, (0.7, 0.35, 0.1)),
    Row("shift.mg.dose", lambda: radiographs("MG"), (0.7, 0.35, 0.1)),
    Row("shift.xr.detector-mtf", radiographs, (0.9, 0.5, 0.35)),
    Row("shift.mg.detector-mtf", lambda: radiographs("MG"), (5.0, 3.0, 2.0)),
    Row("shift.xr.motion-blur", radiographs, (1.1, 2.3, 3.7)),
    Row("shift.xr.lut", radiographs, (0.8, 1.2, 1.7)),
    Row("shift.xr.lut-centre", radiographs, (-5.0, 4.0, 11.0)),
    Row("shift.xr.scatter", radiographs, (0.5, 0.6, 0.7)),
    Row("shift.xr.vendor-processing", radiographs, (15.0, 40.0, 80.0)),
    Row("shift.mr.snr", mr, (30.0, 12.0, 5.0)),
    Row("shift.mr.bias-field", mr, (10.0, 30.0, 70.0)),
    Row("shift.mr.bias-field", mr, (10.0, 30.0, 70.0), {"field": "surface-coil"}),
    Row("shift.mr.ghosting", mr, (3.0, 8.0, 20.0)),
    Row("shift.mr.ghosting", mr, (3.0, 8.0, 20.0), {"period_lines": 2}),
    Row("shift.mr.intensity-scale", mr, (0.8, 1.3, 2.0)),
    Row("shift.us.gain", ultrasound, (-4.0, 3.0, 6.0)),
    Row("shift.us.shadow", ultrasound, (2.0, 5.0, 9.0)),
    Row("shift.us.dynamic-range", ultrasound, (58.0, 55.0, 51.0)),
]
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join([row.id, *map(str, row.options.values())]))


def at_levels(row, batch, values):
    """Each case at the level of its value, as an audit makes it."""
    images, applicable = [], []
    for number, value in enumerate(values):
        case = batch.select(torch.tensor([number]))
        (variant,) = row.made().from_options({**row.options, "levels": [value]}).apply(case, None, None).variants
        images.append(variant.applied_to(case))
        applicable.append(variant.applicable is None or bool(variant.applicable))
    return images, applicable


def test_every_shift_that_keeps_the_contract_is_here():
    known = {id for id, found in catalogue().items() if found.domain == "acquisition-shift"}
    continuous = {id for id in known if isinstance(entry(id).load(), type) and hasattr(entry(id).load(), "continuous")}
    assert continuous == {row.id for row in ROWS}


@rows
def test_a_value_per_case_gives_what_its_level_gives(row):
    batch = row.batch()
    shift = row.made()
    assert isinstance(shift, Continuous)
    variant = shift.continuous(batch)(torch.tensor(row.values, dtype=torch.float64))
    expected, applicable = at_levels(row, batch, row.values)
    spread = batch.images.max() - batch.images.min()
    after = variant.applied_to(batch)
    for number, one in enumerate(expected):
        torch.testing.assert_close(variant.images[number], one.images[0], rtol=0, atol=2e-6 * float(spread))
        torch.testing.assert_close(after.spacing_mm[number], one.spacing_mm[0])
        assert (after.attributes or [{}] * CASES)[number] == (one.attributes or [{}])[0]
    assert variant.applicable.tolist() == applicable
    assert any(applicable)


@rows
def test_the_slope_is_that_of_a_finite_difference(row):
    batch = row.batch()
    values = torch.tensor(row.values, dtype=torch.float64)
    steps = row.step * values.abs()
    at = row.made((values - steps).tolist()).continuous(batch)
    weights = texture(batch.images)[:, :, ..., :].flip(-1).double() + 1.0
    moving = values.clone().requires_grad_()
    (at(moving).images.double() * weights).sum().backward()
    with torch.no_grad():
        ends = [(at(values + side * steps).images.double() * weights).flatten(1).sum(1) for side in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * steps)
    assert (expected != 0).any()
    torch.testing.assert_close(moving.grad, expected, rtol=row.tolerance, atol=0.02 * float(expected.abs().max()))


@rows
def test_the_image_carries_a_gradient_too(row):
    batch = row.batch()
    images = batch.images.clone().requires_grad_()
    variant = row.made().continuous(replace(batch, images=images))(torch.tensor(row.values, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(variant.images.sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).flatten(1).any(1).all()


@rows
def test_the_value_that_changes_nothing_gives_back_the_image(row):
    batch = row.batch()
    shift = row.made()
    own = unchanged_value(shift)
    if own is None:
        pytest.skip("the slices' own thickness differs from case to case")
    at = shift.from_options({**row.options, "levels": sorted({own, *row.values})}).continuous(batch)
    assert torch.equal(at(torch.full((CASES,), own, dtype=torch.float64)).images, batch.images)


@rows
def test_companions_change_nothing(row):
    batch = row.batch()
    values = torch.tensor(row.values, dtype=torch.float64)
    together = row.made().continuous(batch)(values)
    index = torch.tensor([2, 0])
    apart = row.made().continuous(batch.select(index))(values[index])
    torch.testing.assert_close(
        apart.images, together.images[index], rtol=1e-5, atol=1e-6 * float(batch.images.abs().max())
    )


def test_cases_a_value_has_no_meaning_for_come_back_as_they_were():
    volumes = ct_volume()  # slices of 1, 1 and 2 mm
    shift = entry("shift.ct.slice-thickness").load()()
    values = torch.tensor([1.5, 1.5, 1.5], dtype=torch.float64, requires_grad=True)
    variant = shift.continuous(volumes)(values)
    assert variant.applicable.tolist() == [True, True, False]
    assert variant.reason == "slices are thicker already"
    assert torch.equal(variant.images[2], volumes.images[2])
    (slope,) = torch.autograd.grad(variant.images.square().sum(), values)
    assert (slope != 0).tolist() == [True, True, False]


def test_a_function_of_numbers_is_followed_by_differences():
    value = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    found = linearised(lambda number: torch.tensor(number**0.5, dtype=torch.float64), value)
    assert found.item() == 2.0
    (slope,) = torch.autograd.grad(found, value)
    assert slope.item() == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize("row", [row for row in ROWS if row.id.startswith("shift.mr.")], ids=lambda row: row.id)
def test_magnitude_whose_zero_is_elsewhere_on_the_scale_is_altered_from_there(row):
    plain = mr()
    moved = replace(plain, images=plain.images - 0.25, zero_signal=torch.full((CASES,), -0.25))
    values = torch.tensor(row.values, dtype=torch.float64)
    expected = row.made().continuous(plain)(values).images - 0.25
    torch.testing.assert_close(row.made().continuous(moved)(values).images, expected, rtol=1e-4, atol=1e-5)
