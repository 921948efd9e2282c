"""The worst acquisition: what is searched, how near it comes to the worst of a dense grid, and what is said of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_rad.attacks import _acquisition_control as control
from robustbench_rad.attacks._acquisition import Search, even_points
from robustbench_rad.attacks._acquisition_axis import Axis, images_at, made_at
from robustbench_rad.attacks._acquisition_gradient import downhill, nudged, search_level
from robustbench_rad.attacks.acquisition_search import WorstAcquisition
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Batch, Space, Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import entry
from robustbench_rad.seeds import derive_seed

CT = ("shift.ct.dose", "shift.ct.kernel")
RECON = {"shift.ct.recon-algorithm": [0.0, 50.0]}


class Texture(nn.Module):
    """Two findings that read noise and edges: one of little texture, one of much."""

    def forward(self, x):
        rough = (x[..., 1:, :] - x[..., :-1, :]).abs().flatten(1).mean(1)
        bright = x.flatten(1).mean(1)
        return torch.stack([40 * (rough - 0.05), 30 * (bright - 0.3) - 60 * (rough - 0.05)], 1)


def query():
    head = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=("a", "b"), thresholds=(0.5, 0.5))
    model = Classifier(module=Texture().eval(), input=InputSpec(size=(48, 48), window_hu=(-160.0, 240.0)), head=head)
    return CountingQuery(model).through(model.display)


def ct(cases=4, side=48):
    axis = torch.linspace(-1, 1, side)
    disc = ((axis[:, None] ** 2 + axis**2).sqrt() < 0.8).float()
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(cases, 1, side, side, generator=source) * torch.linspace(8, 20, cases)[:, None, None, None]
    names = tuple(f"case-{n}" for n in range(cases))
    images = -1000 + 1040 * disc + noise * disc
    batch = Batch(
        images=images,
        labels=torch.zeros(cases, 2),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(1, name) for name in names),
        space=Space.PHYSICAL,
        unit=Unit.HU,
        modality="CT",
        spacing_mm=torch.full((cases, 2), 6.0),
        stored_bits=12,
        metadata=tuple({"ConvolutionKernel": "STANDARD"} for _ in names),
    )
    clean = query().margins(images)
    return replace(batch, labels=(clean >= 0).float(), clean_margins=clean)


def run(batch, asked=None, **options):
    asked = query() if asked is None else asked
    if batch.modality == "CT":
        options = {"shifts": list(CT), **options}
    applied = WorstAcquisition.from_options(options).apply(batch, asked, None)
    variants = {variant.level.name: variant for variant in applied.variants}
    return variants, {(m.quantity, m.level, m.finding): m.values for m in applied.measurements}


def shifted(batch, row, dose, kernel):
    """One case by the shifts themselves, without the search."""
    case = batch.select(torch.tensor([row]))
    for id, value in zip(CT, (dose, kernel), strict=True):
        made = entry(id).load().from_options({"levels": [value]})
        case = replace(case, images=next(iter(made.apply(case, None, None).variants)).images)
    return query().margins(case.images)[0]


def test_the_winning_parameters_give_the_margin_that_is_reported():
    batch = ct()
    variants, measured = run(batch, levels=[1], evaluations=16)
    for row in range(len(batch)):
        for k, finding in enumerate("ab"):
            dose, kernel = (measured[f"worst {id}", "1", finding][row].item() for id in CT)
            assert np.isfinite(dose)
            again = shifted(batch, row, float(f"{dose:.6g}"), float(f"{kernel:.6g}"))[k]
            torch.testing.assert_close(again, variants["1"].margins[row, k], rtol=1e-4, atol=1e-4)


def test_the_search_comes_within_a_tenth_of_a_dense_grid():
    batch = ct(cases=2)
    variants, _ = run(batch, levels=[1])
    side = batch.labels * 2 - 1
    grid = [(d, k) for d in np.geomspace(0.25, 1, 7) for k in np.geomspace(0.7, 1.6, 9)]
    for row in range(len(batch)):
        dense = torch.stack([shifted(batch, row, float(d), float(k)) for d, k in grid]) * side[row]
        clean = batch.clean_margins[row] * side[row]
        fall, best = clean - variants["1"].margins[row] * side[row], clean - dense.amin(0)
        assert (best > 0).all()
        assert (fall >= 0.9 * best).all()


def test_parameters_stay_inside_the_share_of_the_envelope_and_larger_shares_are_never_milder():
    batch = ct()
    variants, measured = run(batch, levels=[0.5, 1], evaluations=16)
    for level, lowest, kernels in (("0.5", 0.5, (0.7**0.5, 1.6**0.5)), ("1", 0.25, (0.7, 1.6))):
        for finding in "ab":
            dose, kernel = (measured[f"worst {id}", level, finding] for id in CT)
            assert (dose >= lowest - 1e-5).all()
            assert (dose <= 1).all()
            assert (kernel >= kernels[0] - 1e-5).all()
            assert (kernel <= kernels[1] + 1e-5).all()
    side = batch.labels * 2 - 1
    half, whole = (variants[name].margins * side for name in ("0.5", "1"))
    assert (half <= batch.clean_margins * side).all()
    assert (whole <= half).all()
    assert (whole < half).any()


def test_what_is_paid_is_what_was_said():
    batch = ct(cases=3)
    asked = query()
    run(batch, asked, evaluations=6)
    assert asked.forwards == 2 * 6 * len(batch)
    assert asked.backwards == 0  # six are too few to follow anything


@pytest.mark.parametrize("evaluations", [10, 24])
def test_a_gradient_is_paid_for_as_what_it_costs(evaluations):
    batch, asked = ct(cases=3), query()
    run(batch, asked, evaluations=evaluations)
    said = WorstAcquisition(evaluations=evaluations).passes(2)
    assert asked.backwards > 0
    assert asked.forwards + 2 * asked.backwards == len(batch) * (said - 1)
    plain = query()
    run(batch, plain, evaluations=evaluations, gradient=False)
    assert (plain.forwards, plain.backwards) == (len(batch) * (said - 1), 0)


def test_companions_and_order_change_nothing():
    batch = ct()
    _, together = run(batch, levels=[1], evaluations=7)
    index = torch.tensor([2, 0])
    _, apart = run(batch.select(index), levels=[1], evaluations=7)
    for name, values in together.items():
        torch.testing.assert_close(values[index], apart[name], equal_nan=True, rtol=1e-5, atol=1e-6)


def test_a_shift_that_does_not_apply_is_left_out_and_counted():
    batch = ct(cases=3)
    air = batch.images.clone()
    air[1] = -1000.0  # no soft tissue to read the noise from
    variants, measured = run(replace(batch, images=air), levels=[1], evaluations=5)
    assert measured["left_out shift.ct.dose", "", ""].tolist() == [0, 1, 0]
    assert measured["left_out shift.ct.kernel", "", ""].tolist() == [0, 0, 0]
    assert measured["worst shift.ct.dose", "1", "a"][1].isnan()
    assert variants["1"].applicable.all()
    spacing = batch.spacing_mm.clone()
    spacing[0] = torch.nan
    variants, _ = run(replace(batch, spacing_mm=spacing), levels=[1], evaluations=5)
    assert variants["1"].applicable.tolist() == [False, True, True]
    assert variants["1"].margins[0].isnan().all()
    assert variants["1"].reason == "no shift applies to 1 of 3 case(s)"


def test_unknown_labels_are_not_searched():
    batch = ct(cases=3)
    labels = batch.labels.clone()
    labels[0], labels[1, 0] = torch.nan, torch.nan
    asked = query()
    variants, measured = run(replace(batch, labels=labels), asked, levels=[1], evaluations=4)
    assert variants["1"].margins[0].isnan().all()
    assert variants["1"].margins[1].isnan().tolist() == [True, False]
    assert asked.forwards <= 2 * 4
    assert measured["worst shift.ct.dose", "1", "a"][1].isnan()


def test_a_model_that_gives_no_number_is_not_robust():
    class Broken:
        findings = ("a", "b")

        def margins(self, images):
            return torch.full((len(images), 2), torch.nan)

        def margins_and_gradient(self, images, weights):
            return self.margins(images), torch.zeros_like(images)

    variants, _ = run(ct(cases=2), Broken(), levels=[1], evaluations=4)
    assert variants["1"].margins.isnan().all()


def test_radiographs_have_their_exposure_searched():
    batch = ct(cases=2)
    images = (
        0.4
        + 0.2 * (batch.images > -500)
        + 0.01 * torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(1))
    )
    radiographs = replace(batch, images=images, unit=Unit.SIGNAL, modality="DX", spacing_mm=torch.full((2, 2), 0.2))
    head = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=("a", "b"), thresholds=(0.5, 0.5))
    model = CountingQuery(Classifier(module=Texture().eval(), input=InputSpec(size=(48, 48)), head=head))
    clean = model.margins(images)
    radiographs = replace(radiographs, labels=(clean >= 0).float(), clean_margins=clean)
    variants, measured = run(radiographs, model, levels=[1], evaluations=6)
    assert not torch.equal(variants["1"].margins, clean)
    assert {name for name, *_ in measured if name.startswith("worst")} == {
        f"worst shift.{id}" for id in ("geometry.rotate", "geometry.translate", "xr.dose", "xr.lut")
    }


def test_points_are_corners_and_fill_the_box():
    axes = [
        Axis(shift=id, ends=ends, options={}, neutral=1.0)
        for id, ends in zip(CT, ((0.25, 1.0), (0.7, 1.6)), strict=True)
    ]
    points = even_points(axes, 24)
    assert len(set(points)) == 24
    assert {(-1.0, -1.0), (-1.0, 1.0), (0.0, -1.0), (0.0, 1.0)} <= set(points)
    assert (0.0, 0.0) not in points
    assert all(-1 <= dose <= 0 and -1 <= kernel <= 1 for dose, kernel in points)
    quarters = {(dose < -0.5, kernel < 0) for dose, kernel in points[4:]}
    assert len(quarters) == 4


def test_differences_are_searched_on_a_linear_scale():
    axis = Axis(shift="any", ends=(-10.0, 5.0), options={}, neutral=0.0)
    assert [axis.value(c) for c in (-1.0, -0.5, 0.0, 0.5, 1.0)] == [-10.0, -5.0, 0.0, 2.5, 5.0]
    tube = Axis(shift="any", ends=(80.0, 140.0), options={}, neutral=120.0)
    assert [tube.value(c) for c in (-1.0, -0.5, 0.0, 1.0)] == [80.0, 100.0, 120.0, 140.0]


def test_every_point_comes_once_with_its_own_image():
    batch = ct(cases=1)
    axes = WorstAcquisition(shifts=CT)._axes("CT", volumes=False)
    points = [(-1.0, 0.5), (-0.5, 0.5), (-1.0, -1.0)]
    found = {point: images for point, images, _ in images_at(batch, axes, points)}
    assert set(found) == set(points)
    for point, images in found.items():
        expected = shifted(batch, 0, axes[0].value(point[0]), axes[1].value(point[1]))
        torch.testing.assert_close(query().margins(images)[0], expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"levels": [0]}, "shares"),
        ({"levels": [1.5]}, "shares"),
        ({"levels": [1, 0.5]}, "increasing"),
        ({"evaluations": 1}, "at least 2"),
        ({"shifts": "shift.ct.dose"}, "list"),
        ({"shifts": ["shift.ct.dose", "shift.ct.dose"]}, "different"),
        ({"shifts": ["shift.ct.doze"]}, "unknown check"),
        ({"shifts": ["attack.fgsm"]}, "physical space"),
        ({"shifts": ["shift.ct.dose"], "envelope": {"shift.ct.kernel": [0.7, 1.6]}}, "envelope"),
        ({"envelope": {"shift.ct.dose": [0.25]}}, "lowest, highest"),
        ({"envelope": {"shift.ct.dose": [0.25, 0.5]}}, "as it is"),
        ({"envelope": {"shift.ct.dose": 0.5}}, "lowest, highest"),
        ({"envelope": 3}, "table"),
        ({"gradient": 1}, "true or false"),
        ({"shifts": ["shift.mr.snr"], "envelope": {"shift.mr.snr": [20.0, 30.0]}}, "as it is, inf"),
        ({"envelope": {"shift.us.gain": [-math.inf, 3.0]}}, "lowest, highest"),
    ],
)
def test_bad_options_are_refused_by_name(options, said):
    with pytest.raises(PlanError, match=said):
        WorstAcquisition.from_options(options)


def test_a_modality_without_an_envelope_says_what_to_declare():
    with pytest.raises(PlanError, match="no shifts are known for XA"):
        run(replace(ct(cases=1), modality="XA"))


@pytest.mark.parametrize("slopes", [[True], [False] * 3, [True] * 3, [False, True, False, True, True], [True] * 6])
def test_planted_worst_parameters_are_found(slopes):
    assert control.solve(slopes, WorstAcquisition().evaluations) == ""


def test_by_gradient_six_planted_parameters_are_found_with_passes_that_trying_does_not_do_with():
    assert control.solve([True] * 6, 16) == ""
    assert "raise evaluations" in control.solve([True] * 6, 16, gradient=False)


def test_the_positive_control_runs_with_the_plans_own_evaluations():
    assert WorstAcquisition().self_test() == ""
    assert "raise evaluations" in WorstAcquisition(evaluations=2).self_test()


def test_a_search_that_reports_the_wrong_parameters_is_found_out(monkeypatch):
    right = Search.keep

    def wrong(self, rows, margins, points, applies, **more):
        return right(self, rows, margins, [tuple(0.9 * c for c in point) for point in points], applies, **more)

    monkeypatch.setattr(Search, "keep", wrong)
    assert "do not give the margin" in control.solve([True, True], 24)


def test_a_search_beyond_the_envelope_or_below_the_worst_is_found_out(monkeypatch):
    right = Search.keep

    def lower(self, rows, margins, *rest, **more):
        return right(self, rows, margins - 5, *rest, **more)

    monkeypatch.setattr(Search, "keep", lower)
    assert "below the worst" in control.solve([True, True], 24)


def test_slopes_of_the_coordinates_are_those_of_a_finite_difference():
    batch, asked = ct(cases=3), query()
    axes = WorstAcquisition(shifts=("shift.geometry.rotate", *CT))._axes("CT", volumes=False)
    search = Search.of(batch, asked, axes, batch.clean_margins)
    points = [(0.4, -0.5, 0.3), (-0.6, -0.8, -0.4), (0.2, -0.3, 0.7)]
    health, slopes = search.score_and_slopes([0, 1, 2], points, [0, 1, 0])
    assert slopes.isfinite().all()

    def at(moved):
        (made,) = made_at(batch, axes, moved)
        return (asked.margins(made.images) * search.side)[torch.arange(3), torch.tensor([0, 1, 0])].double()

    torch.testing.assert_close(at(points).float(), health, rtol=1e-4, atol=1e-4)
    for axis in (1, 2):  # a rotation of one pixel's texture is no smooth function
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 0.01
        ends = [
            at([tuple(c + side * s for c, s in zip(p, step.tolist(), strict=True)) for p in points]) for side in (1, -1)
        ]
        torch.testing.assert_close(slopes[:, axis], (ends[0] - ends[1]) / 0.02, rtol=0.15, atol=0.05)


def test_the_slope_of_an_axis_is_that_of_its_value():
    ends = {(0.25, 1.0): 1.0, (0.7, 1.6): 1.0, (-6.0, 3.0): 0.0, (20.0, math.inf): math.inf, (4.0, 6.0): 6.0}
    for (low, high), neutral in ends.items():
        axis = Axis(shift="any", ends=(low, high), options={}, neutral=neutral)
        for c in (-0.7, 0.4):
            if axis.box[0] <= c <= axis.box[1]:
                expected = (axis.value(c + 1e-3) - axis.value(c - 1e-3)) / 2e-3
                assert axis.slope(c) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("gradient", [True, False])
def test_parameters_that_a_gradient_led_to_are_told_from_those_that_were_tried(gradient):
    batch, _ = control._plant(4)
    axes = [
        control.PlantedAxis(
            shift=f"planted {n}", ends=(-1.0, 1.0), options={}, neutral=0.0, place=n, differentiable=n > 0
        )
        for n in range(4)
    ]
    asked = control.PlantedQuery(clean=4.0)
    search = Search.of(batch, asked, axes, asked.margins(batch.images))
    search_level(search, 1.0, 24, gradient=gradient)
    found = {m.quantity: m.values for m in search.found(WorstAcquisition.level(1), asked.findings)}
    assert not found["followed planted 0"].any()  # has no slope
    for n in (1, 2, 3):
        assert found[f"followed planted {n}"].any() == gradient
        assert found[f"worst planted {n}"].isfinite().all()


def test_a_shift_without_a_slope_is_tried_and_lets_the_gradient_of_others_through():
    magnitude = (ct(cases=3).images + 1000).clamp_min(0) / 1000
    batch = replace(ct(cases=3), images=magnitude, unit=Unit.MAGNITUDE, modality="MR", spacing_mm=torch.ones(3, 2))
    names = ("shift.mr.bias-field", "shift.mr.resolution")
    made = WorstAcquisition(shifts=names)
    axes = made._axes("MR", volumes=False)
    assert [axis.continuous for axis in axes] == [True, False]
    head = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=("a", "b"), thresholds=(0.5, 0.5))
    asked = CountingQuery(
        Classifier(module=Texture().eval(), input=InputSpec(size=(48, 48), range=(0.0, 2.0)), head=head)
    )
    asked = asked.through(asked.classifier.display)
    search = Search.of(batch, asked, axes, asked.margins(magnitude))
    _, slopes = search.score_and_slopes([0, 1, 2], [(0.5, 0.9), (0.5, 0.9), (0.7, 0.95)], [0, 0, 0])
    assert (slopes[:, 0].abs() > 0).all()
    assert slopes[:, 1].isnan().all()


def test_a_shift_that_works_in_numpy_is_tried_and_cuts_off_the_others(monkeypatch):
    batch, asked = ct(cases=2), query()
    axes = WorstAcquisition(shifts=("shift.ct.hu-calibration", "shift.ct.recon-algorithm"), envelope=RECON)._axes(
        "CT", volumes=False
    )
    shifted = Axis.shifted

    def in_numpy(self, given, values):
        given.images.numpy()
        return shifted(self, given, values)

    monkeypatch.setattr(Axis, "shifted", in_numpy)
    search = Search.of(batch, asked, axes, batch.clean_margins)
    _, slopes = search.score_and_slopes([0, 1], [(0.5, 0.5), (0.5, 0.5)], [0, 0])
    assert slopes.isnan().all()


def test_the_way_down_stays_in_the_envelope_and_ignores_what_has_no_slope():
    boxes = [(-1.0, 1.0)] * 3
    assert downhill(torch.tensor([torch.nan, 0.0, -2.0]), (0.0, 0.0, 0.0), boxes).tolist() == [0, 0, 1]
    assert downhill(torch.tensor([3.0, 0.0, -2.0]), (-1.0, 0.0, 1.0), boxes).tolist() == [0, 0, 0]
    assert downhill(torch.tensor([torch.inf, 0.0, 1.0]), (0.0, 0.0, 0.0), boxes)[0] == -1
    axes = WorstAcquisition(shifts=CT)._axes("CT", volumes=False)
    assert nudged(axes, (0.0, 0.4), 1.0) == (-0.05, 0.4)


@pytest.mark.parametrize(
    ("modality", "unit", "expected"),
    [
        ("MR", Unit.MAGNITUDE, 5),
        ("MG", Unit.SIGNAL, 4),
        ("US", Unit.SIGNAL, 3),
        ("CR", Unit.SIGNAL, 4),
        ("CT", Unit.HU, 4),
    ],
)
def test_every_modality_has_an_envelope_of_its_own(modality, unit, expected):
    source = ct(cases=2)
    images = source.images if unit is Unit.HU else ((source.images + 1000) / 1200).clamp(0.01, 0.99)
    window = {"window_hu": (-160.0, 240.0)} if unit is Unit.HU else {"range": (0.0, 1.0)}
    head = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=("a", "b"), thresholds=(0.5, 0.5))
    model = Classifier(module=Texture().eval(), input=InputSpec(size=(48, 48), **window), head=head)
    asked = CountingQuery(model).through(model.display)
    batch = replace(source, images=images, unit=unit, modality=modality, spacing_mm=torch.full((2, 2), 0.9))
    batch = replace(batch, labels=(asked.margins(images) >= 0).float(), clean_margins=asked.margins(images))
    applied = WorstAcquisition(evaluations=12).apply(batch, asked, None)
    *_, whole = list(applied.variants)
    assert whole.applicable.all()
    assert (whole.margins != batch.clean_margins).any()
    left_out = {m.quantity: m.values.tolist() for m in applied.measurements if m.quantity.startswith("left_out")}
    assert len(left_out) == expected
    assert all(left == [0, 0] for left in left_out.values() if modality != "CT")


def test_volumes_have_their_slice_thickness_searched():
    names = [axis.shift for axis in WorstAcquisition()._axes("CT", volumes=True)]
    assert "shift.ct.slice-thickness" in names
    assert "shift.ct.slice-thickness" not in [axis.shift for axis in WorstAcquisition()._axes("CT", volumes=False)]
