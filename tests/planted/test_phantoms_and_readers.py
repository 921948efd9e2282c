"""Phantoms, marks and the constructed model: what is planted is what is read."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from robustbench_rad.planted.defects import DEFECTS, carried_by, with_defect
from robustbench_rad.planted.phantoms import phantoms
from robustbench_rad.planted.readers import OUTPUTS, PlantedReader


@pytest.fixture(scope="module")
def reader():
    return PlantedReader()


def read(reader, images):
    return reader(torch.from_numpy(np.clip(images, 0, 1))[:, None]).numpy()


def test_a_set_is_a_function_of_its_seed():
    one, again, other = phantoms(20, 1), phantoms(20, 1), phantoms(20, 2)
    np.testing.assert_array_equal(one.images, again.images)
    assert (one.images != other.images).any()
    assert one.images.dtype == np.float32


def test_the_lesion_is_read_about_as_well_as_published_models_read(reader):
    given = phantoms(2000, 3)
    found = read(reader, given.images)
    assert 0.85 < roc_auc_score(given.labels, found[:, OUTPUTS.index("lesion")]) < 0.92
    assert 0.5 < roc_auc_score(given.labels, found[:, OUTPUTS.index("dim")]) < 0.72


def test_a_wide_heart_is_read_and_is_part_of_the_anatomy(reader):
    given = phantoms(1000, 4, heart_size_by_label=0.3)
    assert roc_auc_score(given.labels, read(reader, given.images)[:, OUTPUTS.index("heart")]) > 0.75
    assert given.anatomy[:, 28, 24].all()


def test_the_outline_tells_the_label_only_where_it_is_asked_to():
    for asked, low, high in ((0.0, 0.4, 0.6), (0.14, 0.8, 1.0)):
        given = phantoms(1000, 5, lung_size_by_label=asked)
        assert low < roc_auc_score(given.labels, given.anatomy.sum((1, 2))) < high


@pytest.mark.parametrize("name", DEFECTS)
def test_a_detector_gives_zero_without_its_mark_and_one_with_it_and_never_sees_the_label(reader, name):
    given = phantoms(1000, 6)
    carried = carried_by(given, 0.5)
    images = with_defect(given, DEFECTS[name], carried)
    np.testing.assert_array_equal(images[~carried], given.images[~carried])
    found = read(reader, images)[:, OUTPUTS.index(name)]
    assert found[~carried].mean() == pytest.approx(0, abs=0.1)
    assert found[carried].mean() == pytest.approx(1, abs=0.1)
    assert roc_auc_score(carried, found) > (0.95 if name == "device in the lung" else 0.99)
    if name != "device in the lung":  # a lesion can look a little like a line
        assert roc_auc_score(given.labels[~carried], found[~carried]) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("association", [0.5, 0.7, 0.9])
def test_the_mark_goes_with_the_label_as_asked(association):
    given = phantoms(4000, 7)
    carried = carried_by(given, association)
    assert carried[given.labels == 1].mean() == pytest.approx(association, abs=0.03)
    assert carried[given.labels == 0].mean() == pytest.approx(1 - association, abs=0.03)


def test_a_device_leaves_the_evidence_where_it_was(reader):
    """Else a model without a shortcut would answer the device, and strength 0 would not be nothing."""
    given = phantoms(1000, 7)
    plain, drawn = (
        read(reader, images)[:, OUTPUTS.index("lesion")]
        for images in (given.images, with_defect(given, DEFECTS["device in the lung"], np.ones(1000, dtype=bool)))
    )
    assert abs(drawn.mean() - plain.mean()) < 0.1 * plain.std()
    assert roc_auc_score(given.labels, drawn) > 0.8
