"""The pass: how much of a shift is left in the image that the model is shown."""

import numpy as np
import pytest

from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.evaluation import CHANGE
from robustbench_rad.registry import entry
from robustbench_rad.scores import Quantity


def changes(lab, condition, **fields):
    """SD of the change at the model's input, of three films; None where it was not measured."""
    chunk = lab.evaluator(conditions=[condition]).chunk(lab.films(**fields))
    quantity = Quantity(condition=condition.id, name=CHANGE, level=condition.levels[0].name)
    return chunk.values[:, chunk.quantities.index(quantity)] if quantity in chunk.quantities else None


def shift(id, level, **options):
    return entry(id).load().from_options({"levels": [level], **options})


def test_a_shift_of_what_is_shown_says_what_it_changes(lab):
    found = changes(lab, shift("shift.generic.gaussian-noise", 5))
    assert found.shape == (3,)
    assert (found > 0.05).all()


@pytest.mark.parametrize("id", ["shift.export.jpeg", "shift.geometry.rotate"])
def test_shifts_of_both_spaces_have_the_quantity(lab, id):
    assert np.isfinite(changes(lab, shift(id, {"shift.export.jpeg": "q10"}.get(id, 10)))).all()


def test_a_case_that_a_level_leaves_out_has_none(lab):
    films = lab.films(spacing_mm=None)
    sharper = shift("shift.xr.detector-mtf", 0.7, assumed_field_of_view_mm=0)
    chunk = lab.evaluator(conditions=[sharper]).chunk(films)
    quantity = Quantity(condition=sharper.id, name=CHANGE, level="0.7")
    assert np.isnan(chunk.values[:, chunk.quantities.index(quantity)]).all()


def test_an_attack_is_not_measured_by_its_own_radius(lab):
    assert changes(lab, Fgsm(levels=(Fgsm.level("1/255"),))) is None
