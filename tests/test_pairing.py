"""Two runs are set against each other by ranks: whatever folder and order, and only on the same images."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_rad.cases import read_cases
from robustbench_rad.pairing import CaseSet, ranks


@given(st.lists(st.text(max_size=6), unique=True, max_size=12), st.randoms(use_true_random=False))
def test_equal_ranks_are_equal_ids_in_any_order(ids, random):
    other = random.sample(ids, len(ids))
    order = np.argsort(ranks(tuple(other)))[ranks(tuple(ids))]
    assert [other[row] for row in order] == ids


def test_order_labels_patients_and_metadata_do_not_change_the_set(small_set):
    table = read_cases(small_set)
    records = [replace(r, labels=(1.0,), patient_id="p", metadata={"view": "LL"}) for r in table.records[::-1]]
    one, other = CaseSet.of(table), CaseSet.of(replace(table, records=tuple(records)))
    assert one.sha256 == other.sha256
    assert other.ranks.tolist() == one.ranks.tolist()[::-1]
    assert table.digest != replace(table, records=tuple(records)).digest


def test_an_image_a_mask_a_spacing_an_id_or_a_case_less_changes_the_set(small_set, write_image):
    table = read_cases(small_set)
    first, second, *rest = table.records
    changed = [
        [replace(first, files=second.files), second, *rest],
        [replace(first, anatomy=None), second, *rest],
        [replace(first, spacing_mm=(0.2, 0.2)), second, *rest],
        [replace(first, case_id="other"), second, *rest],
        [second, *rest],
        [replace(first, case_id=second.case_id), replace(second, case_id=first.case_id), *rest],
    ]
    hashes = {CaseSet.of(replace(table, records=tuple(records), _fingerprints={})).sha256 for records in changed}
    assert len(hashes | {CaseSet.of(table).sha256}) == len(changed) + 1


def test_ranks_that_number_no_cases_are_refused():
    with pytest.raises(ValueError, match="its 2 ranks do not number 3 cases"):
        CaseSet(sha256="", ranks=np.arange(2)).check(3)
