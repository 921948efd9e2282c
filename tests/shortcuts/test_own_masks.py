import pytest
import torch

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.misfits import REDRAW, RESAMPLE
from robustbench_rad.shortcuts._own_masks import EMPTY_MASKS, NO_MASKS, WRONG_SIZE, Lacking, without_masks
from robustbench_rad.shortcuts.background_swap import BackgroundSwap
from robustbench_rad.shortcuts.masked_anatomy import MaskedAnatomy

KINDS = {
    "none": ("none", "none", "none"),
    "empty": ("empty", "none", "none"),
    "wrong": ("wrong", "wrong", "wrong"),
    "wrong or none": ("wrong", "none", "wrong"),
    "wrong or empty": ("wrong", "empty", "none"),
}
SAID = {
    "none": NO_MASKS,
    "empty": EMPTY_MASKS,
    "wrong": f"{WRONG_SIZE}: {RESAMPLE}, {REDRAW}",
    "wrong or none": f"{WRONG_SIZE} in 2 of 3 cases, and the others have none: {RESAMPLE}, {REDRAW}",
    "wrong or empty": f"{WRONG_SIZE} in 1 of 3 cases, and the others have empty ones or none: {RESAMPLE}, {REDRAW}",
}


def batch(kinds, first=0):
    """Cases whose mask is of another size, empty or missing; as in an audit, masks of no case at all are None."""
    images = torch.rand(len(kinds), 1, 8, 8, generator=torch.Generator().manual_seed(first))
    names = tuple(f"case-{first + row}" for row in range(len(kinds)))
    return Batch(
        images=images,
        labels=torch.tensor([[float(row % 2)] for row in range(len(kinds))]),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(range(first, first + len(kinds))),
        space=Space.DISPLAY,
        anatomy=torch.zeros_like(images, dtype=torch.bool) if "empty" in kinds else None,
        anatomy_misfit=tuple(kind == "wrong" for kind in kinds),
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("condition", [MaskedAnatomy(), BackgroundSwap()], ids=["masked-anatomy", "background-swap"])
def test_the_reason_is_that_of_the_whole_set_for_any_batches_and_order(condition, name):
    kinds = KINDS[name]
    parts = [
        [batch(kinds)],
        [batch([kind], row) for row, kind in enumerate(kinds)],
        [batch([kind], 9 - row) for row, kind in enumerate(reversed(kinds))],
    ]
    for batches in parts:
        state = condition.fit(None, iter(batches))
        said = {variant.reason for part in batches for variant in condition.apply(part, None, state).variants}
        assert said == {SAID[name]}


@pytest.mark.parametrize("name", KINDS)
def test_where_nothing_was_counted_the_batch_speaks_for_itself(name):
    assert without_masks(batch(KINDS[name]), None) == SAID[name]
    assert without_masks(batch(KINDS[name]), {"atlas": torch.zeros(0)}) == SAID[name]


def test_what_is_kept_of_the_set_can_be_written_and_has_no_atlas():
    lacking = Lacking()
    lacking.add(batch(("wrong", "empty")))
    lacking.add(batch(("wrong",)))
    state = lacking.state()
    assert state["atlas"].numel() == 0
    assert state["without"].tolist() == [3, 2, 1]
