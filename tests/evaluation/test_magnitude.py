"""MR from the file through readers and pass into a shift: all of the magnitude, from its true zero, and its map of tissues."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_rad.cases import read_cases
from robustbench_rad.classifier import InputSpec
from robustbench_rad.shifts.mr_snr import MrSnr
from robustbench_rad.shifts.mr_te_tr import MrTeTr

SHAPE = (24, 20, 3)  # as NIfTI stores it: right, front, top


@pytest.fixture
def heads(tmp_path, plan_for):
    """Two volumes of three tissues in a field of 200, and brighter fat; the first has a map."""
    nibabel = pytest.importorskip("nibabel")
    codes = np.zeros(SHAPE, np.int16)
    codes[2:8], codes[8:14], codes[14:20] = 1, 2, 3
    fat = np.zeros(SHAPE, bool)
    fat[20:21, 5:9] = True
    tissues = np.choose(codes, (200, 400, 700, 1000)).astype(np.float32)
    grain = 3 * np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    for index, scale in enumerate((1, 3)):
        pixels = scale * (np.where(fat, 4000, tissues) + grain)
        nibabel.save(nibabel.Nifti1Image(pixels.astype(np.float32), np.eye(4)), tmp_path / f"{index}.nii")
    nibabel.save(nibabel.Nifti1Image(codes, np.eye(4)), tmp_path / "seg.nii")
    (tmp_path / "test.csv").write_text("id,file,effusion,seg\na,0.nii,1,seg.nii\nb,1.nii,0,\n")

    def make(limits):
        data = {"case": "id", "image": "file", "modality": "MR", "tissue": {"column": "seg"}}
        table = read_cases(plan_for(data, size=(3, 20, 24), limits=limits), volumes=True)
        return [table.load(row) for row in range(len(table))]

    return make


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0)])
def test_shifts_see_the_magnitude_and_the_map(heads, lab, limits):
    cases = heads(limits)
    shifts = [MrTeTr(levels=(MrTeTr.level(1), MrTeTr.level(1.5))), MrSnr(levels=(MrSnr.level(8),))]
    bench = lab.evaluator(InputSpec(size=(3, 20, 24), range=limits), module=lab.Curved(), conditions=shifts)
    chunk = replace(bench, modality="MR").chunk(cases)
    measured = {(q.condition, q.name, q.level): chunk.values[:, i] for i, q in enumerate(chunk.quantities)}
    share = measured["shift.mr.te-tr", "classified_share", "1.5"]
    assert share[0] > 0.6
    assert share[1] == 0
    margins = {(c.condition, c.level): chunk.margins[:, i] for i, c in enumerate(chunk.columns)}
    np.testing.assert_array_equal(margins["shift.mr.te-tr", "1"], margins["clean", ""])
    native = measured["shift.mr.snr", "native_snr", "8"]
    mean = np.mean([np.mean(x) for x in (case.image.numpy() - case.zero_signal for case in cases)])
    assert mean > 0
    np.testing.assert_allclose(native, native[0], rtol=0.01)  # the ratio does not know the scale
    assert 100 < native[0] < 400  # mean of the tissues over 3, not over what the percentiles left of it


def test_the_clean_image_is_what_the_percentiles_show(heads, lab):
    first, _ = heads((0.0, 1.0))
    assert first.image.max() > 2
    assert first.zero_signal < -0.15
    shown = lab.evaluator(InputSpec(size=(3, 20, 24))).display_batch([first]).images
    assert (float(shown.min()), float(shown.max())) == (0.0, 1.0)
