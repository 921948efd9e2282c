"""The pass: which batches a condition is given, and in which space."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_rad.cases import Case, CaseRecord
from robustbench_rad.classifier import Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Applied, Batch, Condition, Level, Space, Unit, Variant
from robustbench_rad.evaluation import Evaluator
from robustbench_rad.loading import wrap_classifier
from robustbench_rad.progress import Progress
from robustbench_rad.query import CountingQuery

SIZE = (6, 6)
CT = InputSpec(size=SIZE, window_hu=(-1000.0, 400.0))
FILM = InputSpec(size=SIZE, range=(0.0, 255.0))


class Mean(nn.Module):
    """One logit: twenty times the mean above one half."""

    def forward(self, x):
        return 20 * (x.flatten(1).mean(1, keepdim=True) - 0.5)


def evaluator(spec=FILM, *, module=None, conditions=(), batch_size=4, rows=256):
    head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("f",), thresholds=(0.5,))
    classifier = wrap_classifier(module or Mean(), input=spec, head=head)
    return Evaluator(
        classifier=classifier,
        conditions=conditions,
        states={},
        modality="CT" if spec.window_hu else "DX",
        seed=1,
        batch_size=batch_size,
        query=CountingQuery(classifier, rows=rows),
        progress=Progress(),
    )


def case(name, image, *, unit=Unit.SIGNAL, bits=8, label=1.0, **fields):
    record = CaseRecord(case_id=name, patient_id=name, reference=name, files=(Path(name),), labels=(label,))
    return Case(record=record, image=image, unit=unit, stored_bits=bits, **fields)


def films(count=3, shape=(1, 12, 12), **fields):
    """Films in grey levels, 0 to 255."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), generator=generator).float()
    return [case(f"c{row}", image, **fields) for row, image in enumerate(images)]


def square(shape=(1, 12, 12), first=2, last=5):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., first:last, first:last] = True
    return mask


def test_display_batches_say_what_their_values_mean():
    batch = evaluator().display_batch(films())
    assert (batch.limits, batch.limits_unit, batch.unit) == ((0.0, 255.0), Unit.SIGNAL, None)
    slices = [replace(item, image=item.image * 4 - 1000, unit=Unit.HU) for item in films()]
    batch = evaluator(CT).display_batch(slices)
    assert (batch.limits, batch.limits_unit) == ((-1000.0, 400.0), Unit.HU)


def test_physical_batches_have_no_limits_of_their_own():
    (batch,) = evaluator().batches(Space.PHYSICAL, films())
    assert (batch.limits, batch.limits_unit, batch.unit) == ((0.0, 1.0), Unit.SIGNAL, Unit.SIGNAL)


def test_an_empty_lesion_mask_is_told_from_a_missing_one():
    first, second, third = films()
    cases = [replace(first, lesion=square()), replace(second, lesion=square(last=2)), third]
    for space, area in ((Space.PHYSICAL, 9), (Space.DISPLAY, 9)):  # 2 to 5 of 12 touches pixels 0 to 2 of 6: 3 × 3
        (batch,) = evaluator().batches(space, cases)
        assert batch.lesion.dtype == torch.bool
        assert batch.lesion.shape == batch.images.shape
        assert batch.lesion.flatten(1).sum(1).tolist() == [area, 0, 0]
        assert batch.lesion_known == (True, True, False)
        turned = batch.select(torch.tensor([2, 0]))
        assert turned.lesion_known == (False, True)
        assert torch.equal(turned.lesion, batch.lesion[[2, 0]])


def test_no_lesion_mask_where_no_case_has_one():
    for space in (Space.PHYSICAL, Space.DISPLAY):
        (batch,) = evaluator().batches(space, films())
        assert batch.lesion is None
        assert batch.lesion_known == (False, False, False)


def test_a_lesion_smaller_than_a_pixel_of_the_model_does_not_vanish():
    (item,) = films(1, shape=(1, 60, 60))
    (batch,) = evaluator().batches(Space.DISPLAY, [replace(item, lesion=square((1, 60, 60), 25, 26))])
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
def test_an_option_may_choose_the_space(space):
    SEEN.clear()
    chunk = evaluator(conditions=[Seen(space_option=space)]).chunk(films())
    assert [batch.space for batch in SEEN] == [space]
    by_condition = {column.condition: chunk.margins[:, i] for i, column in enumerate(chunk.columns)}
    np.testing.assert_allclose(by_condition["test.seen"], by_condition["clean"], rtol=0, atol=2e-4)


def test_a_condition_works_in_its_own_space_and_has_nothing_to_test_unless_it_says_so():
    assert Condition.works_in.fget(Seen()) is Space.DISPLAY
    assert Seen().self_test() == ""
