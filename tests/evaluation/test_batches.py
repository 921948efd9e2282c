"""The pass: which batches a condition is given, and in which space."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Applied, Batch, Condition, Level, Space, Unit, Variant
from robustbench_rad.misfits import Misfit


def test_display_batches_say_what_their_values_mean(lab):
    batch = lab.evaluator().display_batch(lab.films())
    assert (batch.limits, batch.limits_unit, batch.unit) == ((0.0, 255.0), Unit.SIGNAL, None)
    slices = [replace(item, image=item.image * 4 - 1000, unit=Unit.HU) for item in lab.films()]
    batch = lab.evaluator(lab.CT).display_batch(slices)
    assert (batch.limits, batch.limits_unit) == ((-1000.0, 400.0), Unit.HU)


@pytest.mark.parametrize("space", list(Space))
def test_a_mask_of_another_size_is_told_of_its_case_in_every_space(lab, space):
    first, *others = lab.films(3)
    cases = [replace(first, misfit=Misfit(expected=(12, 12), got=(12, 13))), *others]
    batches = list(lab.evaluator(batch_size=2).batches(space, cases))
    assert [batch.anatomy_misfit for batch in batches] == [(True, False), (False,)]
    assert all(batch.anatomy is None for batch in batches)


def test_zero_signal_goes_with_physical_batches_alone(lab):
    zeros = (-0.1, 0.0, -0.3)
    cases = [
        replace(case, unit=Unit.MAGNITUDE, zero_signal=zero) for case, zero in zip(lab.films(), zeros, strict=True)
    ]
    (batch,) = lab.evaluator().batches(Space.PHYSICAL, cases)
    assert batch.zero_signal.tolist() == pytest.approx([-0.1, 0.0, -0.3])
    assert batch.select(torch.tensor([2])).zero_signal.tolist() == pytest.approx([-0.3])
    assert lab.evaluator().display_batch(cases).zero_signal is None
    assert next(lab.evaluator().batches(Space.PHYSICAL, lab.films())).zero_signal is None


def test_maps_of_tissues_go_with_physical_batches_alone(lab):
    first, *others = lab.films()
    codes = torch.randint(0, 4, first.image.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    cases = [replace(first, tissue=codes), *others]
    (batch,) = lab.evaluator().batches(Space.PHYSICAL, cases)
    assert batch.tissue.dtype == torch.uint8
    assert torch.equal(batch.tissue[0], codes)
    assert not batch.tissue[1:].any()
    assert torch.equal(batch.select(torch.tensor([1, 0])).tissue[1], codes)
    assert lab.evaluator().display_batch(cases).tissue is None
    assert next(lab.evaluator().batches(Space.PHYSICAL, others)).tissue is None


def test_physical_batches_have_no_limits_of_their_own(lab):
    (batch,) = lab.evaluator().batches(Space.PHYSICAL, lab.films())
    assert (batch.limits, batch.limits_unit, batch.unit) == ((0.0, 1.0), Unit.SIGNAL, Unit.SIGNAL)


def test_an_empty_lesion_mask_is_told_from_a_missing_one(lab):
    first, second, third = lab.films()
    cases = [replace(first, lesion=lab.square()), replace(second, lesion=lab.square(last=2)), third]
    for space, area in ((Space.PHYSICAL, 9), (Space.DISPLAY, 9)):  # 2 to 5 of 12 touches pixels 0 to 2 of 6: 3 × 3
        (batch,) = lab.evaluator().batches(space, cases)
        assert batch.lesion.dtype == torch.bool
        assert batch.lesion.shape == batch.images.shape
        assert batch.lesion.flatten(1).sum(1).tolist() == [area, 0, 0]
        assert batch.lesion_known == (True, True, False)
        turned = batch.select(torch.tensor([2, 0]))
        assert turned.lesion_known == (False, True)
        assert torch.equal(turned.lesion, batch.lesion[[2, 0]])


def test_no_lesion_mask_where_no_case_has_one(lab):
    for space in (Space.PHYSICAL, Space.DISPLAY):
        (batch,) = lab.evaluator().batches(space, lab.films())
        assert batch.lesion is None
        assert batch.lesion_known == (False, False, False)


def test_a_lesion_smaller_than_a_pixel_of_the_model_does_not_vanish(lab):
    (item,) = lab.films(1, shape=(1, 60, 60))
    (batch,) = lab.evaluator().batches(Space.DISPLAY, [replace(item, lesion=lab.square((1, 60, 60), 25, 26))])
    assert batch.lesion[0, 0].any()
    assert batch.lesion[0, 0, 2, 2]


@dataclass(frozen=True, kw_only=True)
class Seen(Condition):
    """Changes nothing, and says which space it was given."""

    levels: tuple[Level, ...] = (Level(name="0", value=0.0, unit=""),)
    space_option: str = "display"

    @property
    def works_in(self):
        return Space(self.space_option)

    def apply(self, batch, query, state):
        del query, state
        SEEN.append(batch)
        return Applied(variants=iter([Variant(level=self.levels[0], images=batch.images)]))


Seen.id, Seen.version, Seen.space = "test.seen", 1, Space.DISPLAY
SEEN: list[Batch] = []


@pytest.mark.parametrize("space", list(Space))
def test_an_option_may_choose_the_space(lab, space):
    SEEN.clear()
    chunk = lab.evaluator(conditions=[Seen(space_option=space)]).chunk(lab.films())
    assert [batch.space for batch in SEEN] == [space]
    by_condition = {column.condition: chunk.margins[:, i] for i, column in enumerate(chunk.columns)}
    np.testing.assert_allclose(by_condition["test.seen"], by_condition["clean"], rtol=0, atol=2e-4)


def test_a_condition_works_in_its_own_space_and_has_nothing_to_test_unless_it_says_so(lab):
    assert Condition.works_in.fget(Seen()) is Space.DISPLAY
    assert Seen().self_test() == ""
