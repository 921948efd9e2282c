import hashlib
from collections import Counter

import numpy as np
import pytest

from robustbench_rad.demo.dataset import AuditSet, audit_set, phantom_set
from robustbench_rad.demo.phantoms import SIZE, _has_marker, phantom, slot

CASES = 60


@pytest.fixture(scope="module")
def some():
    return [phantom(5, index, association=0.75) for index in range(CASES)]


def test_case_zero_is_the_same_on_every_machine():
    image = phantom(303, 0).image
    assert (
        hashlib.sha256(image.tobytes()).hexdigest()
        == "f1ab7d2ad5b2cedd4addb5c99073ca53b2821d8cfe57f9b938cc86cb114a3cd9"
    )


def test_a_phantom_depends_on_seed_and_index_only(some):
    assert np.array_equal(phantom(5, 37, association=0.75).image, some[37].image)
    assert not np.array_equal(phantom(6, 37).image, some[37].image)


def test_labels_scanners_and_patients_are_balanced():
    slots = [slot(index) for index in range(200)]
    assert Counter((s.label, s.scanner.name) for s in slots) == {
        (label, scanner): 50 for label in (0, 1) for scanner in ("sharp", "soft")
    }
    images_per_patient = Counter(s.patient for s in slots)
    assert len(images_per_patient) == 120
    assert Counter(images_per_patient.values()) == {1: 40, 2: 80}


def test_images_of_a_patient_share_label_and_differ_in_scanner():
    for index in range(1, 200, 5):
        first, second = slot(index), slot(index + 1)
        assert (first.patient, first.label) == (second.patient, second.label)
        assert first.scanner != second.scanner


def test_lesions_are_drawn_inside_the_lungs_of_positives_only(some):
    for drawn in some:
        assert drawn.lesions.any() == bool(drawn.label)
        assert drawn.lesions[drawn.lungs].sum() >= 0.95 * drawn.lesions.sum()


def test_lungs_are_a_plausible_part_of_the_image_and_darker_than_the_rest_of_the_chest(some):
    for drawn in some:
        assert 0.2 < drawn.lungs.mean() < 0.45
        chest = drawn.image[SIZE // 2 :, 20:-20]
        lungs = drawn.lungs[SIZE // 2 :, 20:-20]
        assert chest[lungs].mean() < chest[~lungs].mean() - 30


def test_the_marker_alone_changes_and_lies_outside_every_lung(some):
    anywhere = np.any([drawn.lungs for drawn in some], axis=0)
    for index in range(10):
        without, present = (phantom(5, index, marker=marker) for marker in (False, True))
        changed = without.image != present.image
        assert 5 < changed.sum() < 250
        assert not (changed & anywhere).any()
        assert (without.label, without.scanner) == (present.label, present.scanner)


@pytest.mark.parametrize("association", [0.5, 0.9])
def test_the_marker_follows_the_label_as_often_as_asked(association):
    agree = [_has_marker(8, index, association) == bool(slot(index).label) for index in range(2000)]
    assert np.mean(agree) == pytest.approx(association, abs=0.035)


def test_noise_grows_with_the_inverse_root_of_the_dose():
    index = next(i for i in range(20) if slot(i).scanner.name == "sharp")
    images = [phantom(5, index, dose_fraction=dose).image.astype(float) for dose in (1e9, 0.25, 0.0625)]
    middle = (slice(70, 90), slice(30, 60))  # not clipped there
    quarter, sixteenth = (np.std((image - images[0])[middle]) for image in images[1:])
    assert sixteenth / quarter == pytest.approx(2.0, rel=0.1)


def test_a_set_is_stored_in_eight_bits():
    data = phantom_set(5, 3)
    assert data.images.shape == (3, 1, SIZE, SIZE)
    stored = data.images * 255
    assert stored.sub(stored.round()).abs().max() < 1e-4


def test_items_of_the_audit_set():
    dataset = audit_set()
    item = dataset[7]
    assert set(item) == {"image", "labels", "case", "patient", "metadata", "anatomy", "spacing_mm"}
    assert item["image"].shape == item["anatomy"].shape == (SIZE, SIZE)
    assert item["image"].equal(dataset[7]["image"])
    assert item["metadata"]["scanner"] in ("sharp", "soft")
    assert item["metadata"]["marker"] in ("present", "absent")


def test_the_audit_set_ends():
    dataset = AuditSet(4)
    assert len(list(dataset)) == len({dataset[i]["case"] for i in range(4)}) == 4
    with pytest.raises(IndexError):
        dataset[4]
