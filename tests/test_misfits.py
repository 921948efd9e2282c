import torch

from robustbench_rad.cases import read_cases
from robustbench_rad.conditions import Batch, Space
from robustbench_rad.misfits import Misfit, misfit_message, misfit_rows, misfit_summary


def misfit(*got):
    return Misfit(expected=(8, 8), got=got)


def test_the_summary_counts_masks_and_pairs_of_sizes_the_most_frequent_first():
    found = {"a": misfit(8, 9), "b": misfit(4, 8, 8), "c": misfit(8, 9)}
    said = misfit_summary(found, 7)
    assert said.startswith(
        "3 of 7 cases come with an anatomy mask of another size than their image, and are taken for cases"
    )
    assert "8 × 9 for an image of 8 × 8 (2), 4 × 8 × 8 for an image of 8 × 8 (1);" in said
    assert "without one: resample each mask to the size of its image with nearest neighbour" in said
    assert "those of the other cases" in said
    assert misfit_summary(dict(reversed(found.items())), 7) == said


def test_of_many_pairs_of_sizes_three_are_shown_and_the_others_counted():
    said = misfit_summary({str(side): misfit(8, side) for side in range(9, 14)}, 5)
    assert "8 × 11 for" in said
    assert "8 × 12" not in said
    assert "and 2 more pairs of sizes" in said
    assert "No case is left with a mask" in said


def test_the_message_names_the_first_case_by_id_with_its_file(small_set, write_image, tmp_path):
    assert misfit_message(read_cases(small_set)) == ""
    write_image(torch.ones(8, 9).byte().numpy(), "mask.png")
    said = misfit_message(read_cases(small_set))
    assert said.startswith("warning: anatomy masks: 6 of 6 cases come with")
    expected = "expected a mask of the size of its image, 8 × 8, got 8 × 9"
    assert said.endswith(f"E.g. case case0.png: {tmp_path / 'mask.png'}: {expected}")


def test_rows_of_a_batch_follow_a_choice_of_its_cases():
    batch = Batch(
        images=torch.zeros(3, 1, 4, 4),
        labels=torch.zeros(3, 1),
        case_ids=("a", "b", "c"),
        patient_ids=("a", "b", "c"),
        seeds=(1, 2, 3),
        space=Space.DISPLAY,
    )
    assert misfit_rows(batch).tolist() == [False] * 3
    known = Batch(**{**vars(batch), "anatomy_misfit": (True, False, True)})
    assert misfit_rows(known.select(torch.tensor([1, 2]))).tolist() == [False, True]
    assert not batch.select(torch.tensor([0])).anatomy_misfit
