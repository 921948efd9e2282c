"""CT end to end: DICOM folders in HU, slices and series, dose and kernel, and no identifier anywhere."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from robustbench_rad.audit import run_audit
from robustbench_rad.plan import read_plan
from robustbench_rad.reports.writer import write_reports
from robustbench_rad.result import Verdict

DID = "What the shift did"
SIDE = 128
NAMES = (b"Doe^Jane", b"MRN-4711", b"19610203", b"General Hospital")
PLAN = """
title = "CT"
profile = "profile.toml"
seed = 3
[model]
factory = "ct_model.py:MODEL"
head = "single-logit"
findings = ["nodule"]
thresholds = { nodule = 0.5 }
[model.input]
size = [SIZE]
window_hu = [-200, 300]
[data]
source = "dicom"
root = "ct"
manifest = "labels.csv"
modality = "CT"
metadata = { Manufacturer = "nuisance" }
[run]
chunk_size = 8
batch_size = 4
[report]
images = true
"""
PROFILE = """
name = "ct"
version = 1
[domains.clean]
[domains.adversarial]
[domains.acquisition-shift]
[checks."clean.performance"]
[checks."attack.pgd-linf"]
epsilon = ["1/255"]
steps = 2
random_starts = 0
[checks."shift.ct.dose"]
levels = [0.5, 0.1]
[checks."shift.ct.kernel"]
levels = [0.5, 1.35]
[checks."shift.xr.dose"]
levels = [0.5]
[checks."saliency.parameter-randomisation"]
max_cases = 4
[domains.saliency]
weight = 0
"""
MODEL = """
import torch
from torch import nn

class Mean(nn.Module):
    '''Mean of the windowed middle above 0.45.'''
    def __init__(self, rank):
        super().__init__()
        self.rank = rank
        self.first = (nn.Conv2d if rank == 2 else nn.Conv3d)(1, 1, 1)
        nn.init.ones_(self.first.weight); nn.init.zeros_(self.first.bias)
    def forward(self, x):
        middle = self.first(x)[..., 58:70, 58:70]
        return 60 * (middle.flatten(1).mean(1, keepdim=True) - 0.5)

def slices():
    return Mean(2)

def volumes():
    return Mean(3)
"""


def slice_hu(label: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    image = np.where(np.hypot(x, y) < 56, 40.0, -1000.0)
    image[np.hypot(x, y) < 14] += 50 * label - 10
    return image + rng.normal(0, 8, image.shape) * (image > -900)


def write_ct(path, hu, *, series, number, patient, maker, kernel="B30f", burned=False):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.SeriesInstanceUID, file.StudyInstanceUID = series, series
    file.PatientName, file.PatientID, file.PatientBirthDate = "Doe^Jane", f"MRN-4711-{patient}", "19610203"
    file.InstitutionName, file.Manufacturer, file.Modality = "General Hospital", maker, "CT"
    file.ConvolutionKernel, file.KVP, file.SliceThickness = kernel, 120, 2.0
    file.PixelSpacing, file.ImagePositionPatient = [0.8, 0.8], [0, 0, 2.0 * number]
    file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = SIDE, SIDE, 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.RescaleSlope, file.RescaleIntercept = 1, -1024
    file.WindowCenter, file.WindowWidth = 40, 400  # never applied to CT
    if burned:
        file.BurnedInAnnotation = "YES"
    file.PixelData = (hu + 1024).clip(0, 4095).round().astype(np.uint16).tobytes()
    file.save_as(path, enforce_file_format=True)
    return file.SOPInstanceUID


@pytest.fixture
def ct(tmp_path):
    """Write 24 slices, one or three to a series; returns a function that audits them."""

    def audit(*, volumes=False, burned=False, kernel="B30f", source="dicom"):
        rng = np.random.default_rng(2)
        (tmp_path / "ct").mkdir()
        key = "SeriesInstanceUID" if volumes else "SOPInstanceUID"
        rows = [f"{key},nodule"]
        for case in range(24):
            series = generate_uid()
            for number in range(3 if volumes else 1):
                uid = write_ct(
                    tmp_path / "ct" / f"{case}-{number}.dcm",
                    slice_hu(case % 2, rng),
                    series=series,
                    number=number,
                    patient=case,
                    maker=["SIEMENS", "GE"][case // 2 % 2],
                    kernel=kernel,
                    burned=burned,
                )
            name = f"{case}-0.dcm" if source == "manifest" else series if volumes else uid
            rows.append(f"{name},{case % 2}")
        (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
        (tmp_path / "ct_model.py").write_text(MODEL)
        (tmp_path / "profile.toml").write_text(PROFILE)
        plan = PLAN.replace("MODEL", "volumes" if volumes else "slices")
        plan = plan.replace("SIZE", f"3, {SIDE}, {SIDE}" if volumes else f"{SIDE}, {SIDE}")
        if volumes:
            plan = plan.replace('modality = "CT"', 'modality = "CT"\ncase = "SeriesInstanceUID"')
        if source == "manifest":
            plan = plan.replace('source = "dicom"', 'source = "manifest"\nimage = "SOPInstanceUID"')
            plan = plan.replace('metadata = { Manufacturer = "nuisance" }\n', "")
        (tmp_path / "plan.toml").write_text(plan)
        done = run_audit(read_plan(tmp_path / "plan.toml"), folder=tmp_path / "run")
        write_reports(done.result, done.folder, ["html", "markdown", "junit"])
        return done.result

    return audit


def test_slices_are_audited_in_hu(ct):
    result = ct()
    checks = {criterion.check for criterion in result.criteria}
    assert {"shift.ct.dose", "shift.ct.kernel"} <= checks
    assert "shift.xr.dose" not in checks  # has no meaning for CT: no part of the effective profile
    assert result.findings[0].auroc.estimate > 0.95
    (dose,) = [table for table in result.tables if (table.check, table.title) == ("shift.ct.dose", DID)]
    noise = [row[dose.columns.index("median added noise sd hu")] for row in dose.rows]
    assert 0 < noise[0] < noise[1]
    assert [row[1] for row in dose.rows] == [24, 24]
    (kernel,) = [table for table in result.tables if (table.check, table.title) == ("shift.ct.kernel", DID)]
    f50 = [row[kernel.columns.index("median f50 per mm")] for row in kernel.rows]
    assert f50[0] < f50[1]


@pytest.mark.parametrize("source", ["dicom", "manifest"])
def test_the_kernel_is_read_from_the_header_without_being_declared(ct, source):
    """A lung kernel taken for a soft one would be sharpened far beyond what any scanner makes."""
    tables = {table.check: table for table in ct(kernel="B60f", source=source).tables if table.title == DID}
    for check in ("shift.ct.dose", "shift.ct.kernel"):
        table = tables[check]
        assumed = table.columns.index("median source kernel assumed")
        assert [row[assumed] for row in table.rows] == [0, 0], check
    kernel = tables["shift.ct.kernel"]
    f50 = kernel.columns.index("median source f50 per mm")
    assert [row[f50] for row in kernel.rows] == pytest.approx([0.8, 0.8])


def test_a_kernel_nobody_knows_is_said_to_be_assumed(ct):
    (kernel,) = [table for table in ct(kernel="XYZ").tables if (table.check, table.title) == ("shift.ct.kernel", DID)]
    assert [row[kernel.columns.index("median source kernel assumed")] for row in kernel.rows] == [1, 1]


def test_epsilon_is_given_in_hu_too(ct):
    """A window of 500 HU: 1/255 of the display range is 1.96 HU."""
    levels = {c.level.unit for c in ct().criteria if c.check == "attack.pgd-linf"}
    assert levels == {"of range = 1.96 HU"}


def test_series_become_volumes_for_a_model_that_takes_them(ct):
    result = ct(volumes=True)
    assert result.data.cases == 24
    assert result.findings[0].auroc.estimate > 0.95
    for check in ("attack.pgd-linf", "shift.ct.dose", "shift.ct.kernel"):
        harms = [criterion.harm.estimate for criterion in result.criteria if criterion.check == check]
        assert harms, check
        assert all(harm is not None for harm in harms), check
    (saliency,) = [c for c in result.criteria if c.check == "saliency.parameter-randomisation"]
    assert saliency.harm.estimate is not None or saliency.verdict is Verdict.INCONCLUSIVE


def test_no_identifier_of_a_dicom_file_reaches_an_artefact(ct, tmp_path):
    ct()
    ids = [str(pydicom.dcmread(path).SOPInstanceUID).encode() for path in sorted((tmp_path / "ct").glob("*.dcm"))]
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [word for word in (*NAMES, *ids) if word in content], path


def test_burned_in_annotation_is_never_shown(ct):
    assert ct(burned=True).pictures == []


def test_pictures_are_shown_when_the_plan_allows_them(ct):
    assert {picture.check for picture in ct().pictures} == {"shift.ct.dose", "shift.ct.kernel"}
