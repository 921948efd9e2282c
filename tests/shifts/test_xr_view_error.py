"""Laterals in the place of frontal images: only from a bank, drawn per case, part of the identity of a run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.shifts.xr_view_error import XrViewError, read_bank


@pytest.fixture
def bank(tmp_path):
    path = tmp_path / "laterals.npz"
    np.savez(path, images=np.stack([np.full((10, 8), grey, np.uint8) for grey in (0, 51, 102, 255)]))
    return path


@pytest.fixture
def batch(physical_batch):
    return physical_batch(torch.full((20, 1, 12, 12), 0.3), unit=Unit.SIGNAL)


def test_every_case_gets_an_image_of_the_bank(batch, run, bank):
    (variant,), measured = run(XrViewError(bank=str(bank)), batch)
    numbers = measured["bank_image", "lateral"].long()
    assert set(numbers.tolist()) == {0, 1, 2, 3}
    greys = torch.tensor([0, 51, 102, 255]) / 255
    torch.testing.assert_close(variant.images, greys[numbers][:, None, None, None].expand_as(variant.images))
    assert variant.changed_attributes(20)[0] == {"ViewPosition": "LL"}


def test_without_a_bank_it_says_what_is_needed(batch, run):
    (variant,), _ = run(XrViewError(), batch)
    assert not variant.applicable.any()
    assert "cannot be made from a frontal image; give bank" in variant.reason
    assert torch.equal(variant.images, batch.images)
    assert XrViewError().reads_sha256 == ""


def test_the_bank_is_found_beside_the_plan_and_is_part_of_the_run(bank, batch, run):
    plan = SimpleNamespace(path=lambda text: bank.parent / text)
    shift = XrViewError(bank="laterals.npz").bound(plan)
    assert shift == XrViewError(bank="laterals.npz")
    before = shift.reads_sha256
    assert len(before) == 64
    assert run(shift, batch)[0][0].applicable is None
    np.savez(bank, images=np.zeros((1, 2, 2), np.uint8))
    assert XrViewError(bank="laterals.npz").bound(plan).reads_sha256 != before
    with pytest.raises(PlanError, match=r"bank: no such file: other\.npz"):
        XrViewError(bank="other.npz").bound(plan)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((1, 2, 2))}, "expected an .npz file with an array images"),
        ({"images": np.zeros((2, 2))}, r"shape \(M, H, W\), got \(2, 2\)"),
        ({"images": np.zeros((0, 2, 2))}, r"got \(0, 2, 2\)"),
        ({"images": np.full((1, 2, 2), 1.5)}, r"floats in \[0, 1\]"),
        ({"images": np.full((1, 2, 2), np.nan)}, "or NaN"),
        ({"images": np.zeros((1, 2, 2), np.int64)}, "got int64"),
        ({"images": np.array([[["a"]]], dtype=object)}, "array images"),
    ],
)
def test_bad_banks_are_refused(tmp_path, arrays, message):
    path = tmp_path / "bank.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        read_bank(path)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "bank.npz"
    path.write_text("no archive")
    with pytest.raises(DataError, match=r"bank\.npz: expected an .npz file"):
        read_bank(path)


def test_bad_levels_are_refused():
    with pytest.raises(PlanError, match="expected lateral, got oblique"):
        XrViewError.from_options({"levels": ["oblique"]})
