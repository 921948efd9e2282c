import numpy as np
import pytest
import torch

from robustbench_rad.classifier import InputSpec
from robustbench_rad.conditions import Unit
from robustbench_rad.data.images import ReadOptions, check_range, decoding, physical_from_array, scaled_magnitude
from robustbench_rad.errors import DataError, ImageError


def test_grey_levels_become_signal():
    pixels, bits = physical_from_array(np.array([[0, 51, 255]], np.uint8), ReadOptions(), "a")
    assert bits == 8
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, [[0, 0.2, 1]], rtol=1e-7)


def test_declared_range_is_mapped_so_that_display_gives_the_signal_back():
    options = ReadOptions(limits=(-1024.0, 1024.0))
    pixels, _ = physical_from_array(np.array([[0, 65535]], np.uint16), options, "a")
    np.testing.assert_allclose(pixels, [[-1024, 1024]])


def test_declared_bits():
    pixels, bits = physical_from_array(np.array([[4095]], np.uint16), ReadOptions(stored_bits=12), "a")
    assert (pixels.item(), bits) == (1.0, 12)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.array([[4096]], np.uint16), ReadOptions(stored_bits=12), r"outside its declared range.*\[0, 4095\].*4096"),
        (np.array([[1]], np.uint8), ReadOptions(stored_bits=12), "12 is declared, but the file stores 8 bits"),
        (np.array([[1]], np.int64), ReadOptions(), "do not say how many grey levels"),
        (np.array([[-1]], np.int16), ReadOptions(stored_bits=16), "outside its declared range"),
        (np.array([[True]]), ReadOptions(), "mask, not an image"),
        (np.array([[1j]]), ReadOptions(), "expected numbers, got complex128"),
        (np.array([["a"]]), ReadOptions(), "expected numbers"),
        (np.zeros((0, 3), np.float32), ReadOptions(), "no pixels"),
        (np.array([[0.0, np.nan]]), ReadOptions(), "1 of 2 pixels are NaN or infinite"),
        (np.array([[0.0, np.inf]]), ReadOptions(modality="CT"), "NaN or infinite"),
        (np.array([[0.0, 255.0]]), ReadOptions(), r"expected \[0, 1\], got \[0, 255\]"),
        (np.array([[0.0, 0.5]]), ReadOptions(modality="CT"), "looks like a windowed image"),
        (np.array([[0.0, 40000.0]]), ReadOptions(modality="CT"), "expected CT in HU"),
        (np.array([[7]], np.uint8), ReadOptions(modality="CT"), "unsigned grey levels"),
    ],
)
def test_refused(array, options, message):
    with pytest.raises(ImageError, match=message) as raised:
        physical_from_array(array, options, "folder/a.png")
    assert "folder/a.png" in str(raised.value)


def test_ct_takes_signed_integers_and_floats_as_hounsfield():
    for kind in (np.int16, np.float64):
        pixels, _ = physical_from_array(np.array([[-1000, 400]], kind), ReadOptions(modality="CT"), "a")
        assert pixels.tolist() == [[-1000.0, 400.0]]


def test_range_slack_is_only_for_rounding():
    check_range(np.array([[1.00005]], np.float32), ReadOptions(), "a")
    with pytest.raises(ImageError):
        check_range(np.array([[1.001]], np.float32), ReadOptions(), "a")


def test_units():
    assert [ReadOptions(modality=m).unit for m in ("CT", "MR", "DX")] == [Unit.HU, Unit.MAGNITUDE, Unit.SIGNAL]


MR = ReadOptions(modality="MR")


def test_flat_magnitude_is_zero():
    pixels, zero = scaled_magnitude(np.full((2, 2), 7, np.float32), MR, "a")
    assert (pixels.tolist(), zero) == ([[0, 0], [0, 0]], 0)


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-1024.0, 1024.0)])
@pytest.mark.parametrize("darkest", [0.0, 40.0, -0.5])
def test_magnitude_keeps_its_ends_and_is_displayed_as_if_it_had_been_clipped(limits, darkest):
    """What the reader clipped at its percentiles before, the display step clips: bit for bit the same picture."""
    low, high = limits
    stored = np.random.default_rng(1).gamma(1.5, 100.0, (60, 50)).astype(np.float32) + np.float32(darkest)
    options = ReadOptions(modality="MR", limits=limits)
    pixels, zero = scaled_magnitude(stored, options, "a")
    p1, p99 = np.percentile(stored, (1.0, 99.0))
    clipped = options.from_signal(np.clip((stored - p1) / (p99 - p1), 0.0, 1.0).astype(np.float32))
    shown = [InputSpec(size=(40, 30), range=limits).display(torch.from_numpy(x)[None, None]) for x in (pixels, clipped)]
    assert torch.equal(*shown)
    assert (pixels > high).mean() == pytest.approx(0.01, abs=0.001)
    magnitude = (pixels - zero) / (high - low) * (p99 - p1)
    np.testing.assert_allclose(magnitude, stored.clip(min=0), atol=1e-3)
    assert magnitude.min() >= 0


def test_scores_and_phase_are_not_taken_for_magnitude():
    """Scaling by percentiles would make an image of them that no MR shift could tell from magnitude."""
    tissue = np.random.default_rng(0).rayleigh(100, (50, 50)).astype(np.float32)
    for signed in ((tissue - tissue.mean()) / tissue.std(), np.linspace(-np.pi, np.pi, 2500, dtype=np.float32)):
        with pytest.raises(ImageError, match=r"a\.nii: expected MR magnitude, not below 0, got negative"):
            scaled_magnitude(signed, MR, "a.nii")
    tissue[0, 0] = -5.0  # ringing of an interpolation
    pixels, zero = scaled_magnitude(tissue, MR, "a.nii")
    assert pixels.min() == np.float32(zero)


def test_whatever_a_decoder_raises_names_the_file():
    with pytest.raises(ImageError, match=r"x\.png: cannot be decoded: KeyError"), decoding("x.png"):
        raise KeyError
    with pytest.raises(DataError, match=r"^mine$"), decoding("x.png"):
        raise DataError("mine")
