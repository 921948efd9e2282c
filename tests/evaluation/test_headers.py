"""The pass: what a shift says of the header and of the sampling of the images it makes."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Applied, Condition, Level, Space, Variant
from robustbench_rad.scores import Quantity

LEVELS = (Level(name="2", value=2.0, unit="x"),)


@dataclass(frozen=True, kw_only=True)
class Coarser(Condition):
    """Every second pixel, which doubles the spacing."""

    levels: tuple[Level, ...] = LEVELS
    keyword: str = "KVP"

    def apply(self, batch, query, state):
        del query, state
        images = batch.images[..., ::2, ::2].clone()
        variant = Variant(
            level=self.levels[0],
            images=images,
            applicable=torch.tensor([row != 1 for row in range(len(batch))]),
            reason="the second is left out",
            spacing_mm=batch.spacing_mm * 2,
            attributes={self.keyword: "80"},
            case_attributes=tuple({"PixelSpacing": str(row)} for row in range(len(batch))),
        )
        return Applied(variants=iter([variant]))


Coarser.id, Coarser.version, Coarser.space = "test.coarser", 1, Space.PHYSICAL


def test_the_pass_records_what_the_header_would_say_and_the_new_spacing(lab):
    chunk = lab.evaluator(conditions=[Coarser()]).chunk(lab.films(spacing_mm=(0.5, 0.25)))
    assert chunk.attributes == (
        ("test.coarser", "2", "KVP", "80"),
        ("test.coarser", "2", "PixelSpacing", "0"),
        ("test.coarser", "2", "PixelSpacing", "2"),
    )
    for name, spacing in (("row_spacing_mm", 1.0), ("column_spacing_mm", 0.5)):
        position = chunk.quantities.index(Quantity(condition="test.coarser", name=name, level="2"))
        np.testing.assert_array_equal(chunk.values[:, position], [spacing] * 3)


@dataclass(frozen=True, kw_only=True)
class Sided(Condition):
    """Leaves the images, and says that the first finding has no meaning after it."""

    levels: tuple[Level, ...] = LEVELS
    without: tuple[str, ...] = ()

    def apply(self, batch, query, state):
        del query, state
        variant = Variant(level=self.levels[0], images=batch.images, excluded_findings=self.without)
        return Applied(variants=iter([variant]))


Sided.id, Sided.version, Sided.space = "test.sided", 1, Space.PHYSICAL


def test_a_finding_that_a_level_excludes_is_not_scored_for_any_case(lab):
    cases = lab.films()
    finding = lab.evaluator(conditions=[Sided()]).classifier.findings[0]
    for without, scored in (((finding,), False), ((), True), (("another",), True)):
        chunk = lab.evaluator(conditions=[Sided(without=without)]).chunk(cases)
        columns = zip(chunk.columns, chunk.margins.T, strict=True)
        values = next(v for c, v in columns if (c.condition, c.finding) == ("test.sided", finding))
        assert np.isfinite(values).all() if scored else np.isnan(values).all()


def test_another_shape_goes_through_the_display_conversion(lab):
    cases = lab.films()
    chunk = lab.evaluator(conditions=[Coarser()]).chunk(cases)
    found = {column.condition: chunk.margins[:, i] for i, column in enumerate(chunk.columns)}["test.coarser"]
    expected = [20 * (float(case.image[..., ::2, ::2].mean()) / 255 - 0.5) for case in cases]
    np.testing.assert_allclose(found, [expected[0], np.nan, expected[2]], atol=2e-4)


def test_an_attribute_outside_the_whitelist_never_enters_the_record(lab):
    chunk = lab.evaluator(conditions=[Coarser(keyword="PatientName")]).chunk(lab.films())
    assert chunk.attributes == ()
    ((condition, level, reason),) = chunk.reasons
    assert (condition, level) == ("test.coarser", "2")
    assert "PatientName" in reason


def test_the_next_condition_gets_images_spacing_and_header(lab):
    films = lab.films(spacing_mm=(0.5, 0.25), anatomy=lab.square(), attributes={"KVP": "120", "Grid": "NONE"})
    (batch,) = lab.evaluator().batches(Space.PHYSICAL, films)
    (variant,) = Coarser().apply(batch, None, None).variants
    after = variant.applied_to(batch)
    assert after.images.shape == (3, 1, 6, 6)
    assert after.spacing_mm[0].tolist() == [1.0, 0.5]
    assert [row["KVP"] for row in after.attributes] == ["80", "120", "80"]  # the second is not applicable
    assert all(row["Grid"] == "NONE" for row in after.attributes)
    assert after.anatomy is None  # the mask is of another grid
    assert batch.attributes[0]["KVP"] == "120"


def test_margins_are_no_images_to_go_on_with(lab):
    (batch,) = lab.evaluator().batches(Space.PHYSICAL, lab.films())
    with pytest.raises(ValueError, match="2 x: expected images"):
        Variant(level=LEVELS[0], margins=batch.labels).applied_to(batch)
