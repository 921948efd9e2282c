import numpy as np
import pytest
from PIL import Image

from robustbench_rad.data.files import read_file
from robustbench_rad.data.images import ReadOptions
from robustbench_rad.data.raster import decode_raster, read_raster
from robustbench_rad.errors import ImageError

RAMP16 = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
RAMP8 = np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_come_back_exactly(write_image, name):
    image = read_raster(write_image(RAMP16, name), ReadOptions())
    np.testing.assert_array_equal(np.rint(image.pixels.astype(np.float64) * 65535), RAMP16)
    assert image.stored_bits == 16
    assert (image.pixels.min(), image.pixels.max()) == (0, 1)


def test_eight_bits(write_image):
    image = read_raster(write_image(RAMP8), ReadOptions())
    np.testing.assert_array_equal(np.rint(image.pixels * 255), RAMP8)
    assert image.stored_bits == 8


def test_jpeg(write_image):
    image = read_raster(write_image(RAMP8, "a.jpg", quality=100), ReadOptions())
    np.testing.assert_allclose(image.pixels * 255, RAMP8, atol=6)


def test_twelve_bits_in_sixteen(write_image):
    path = write_image(np.array([[0, 4095]], np.uint16))
    assert read_raster(path, ReadOptions(stored_bits=12)).pixels.tolist() == [[0.0, 1.0]]
    with pytest.raises(ImageError, match="outside its declared range"):
        read_raster(path, ReadOptions(stored_bits=11))


def test_float_tiff_is_taken_as_it_is_and_checked(write_image):
    path = write_image(np.array([[-3.0, 5.0]], np.float32), "a.tif")
    assert read_raster(path, ReadOptions(limits=(-4.0, 6.0))).pixels.tolist() == [[-3.0, 5.0]]
    with pytest.raises(ImageError, match=r"expected \[0, 1\], got \[-3, 5\]"):
        read_raster(path, ReadOptions())


def test_white_is_zero_in_sixteen_bit_tiff(write_image):
    path = write_image(RAMP16, "a.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(decode_raster(path), 65535 - RAMP16)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_in_disguise_is_accepted_and_alpha_dropped(tmp_path, mode):
    path = tmp_path / "a.png"
    grey = Image.fromarray(RAMP8)
    disguised = grey.convert("RGB").convert(mode) if mode == "RGBA" else grey.convert(mode)
    if mode in ("RGBA", "LA"):
        disguised.putalpha(7)
    disguised.save(path)
    np.testing.assert_array_equal(decode_raster(path), RAMP8)


def test_one_bit(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RAMP8 > 100).save(path)
    assert set(np.unique(decode_raster(path))) == {0, 255}


def test_true_colour_is_refused(write_image):
    colour = np.stack([RAMP8, RAMP8[::-1], RAMP8], axis=2)
    with pytest.raises(ImageError, match="expected a grey image, got colour"):
        decode_raster(write_image(colour))


def test_cmyk_is_refused(tmp_path):
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="got colour mode CMYK"):
        decode_raster(tmp_path / "a.jpg")


def test_sixteen_bit_colour_is_refused_not_truncated(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(_png(width=2, height=2, bits=16, colour=2, rows=bytes([0] + 12 * [9]) * 2))
    with pytest.raises(ImageError, match="16 bits per channel with colour or alpha"):
        decode_raster(path)


def _png(*, width, height, bits, colour, rows):
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(_png(width=30_000, height=5_000, bits=8, colour=0, rows=b"\0"))
    with pytest.raises(ImageError, match="decompression bomb"):
        decode_raster(path)


def test_several_frames_are_refused(tmp_path):
    page = Image.fromarray(RAMP8)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(ImageError, match="expected one image, got 2 frames"):
        decode_raster(tmp_path / "a.tif")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_truncated_files_are_found(write_image, name, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = write_image(noise, name)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ImageError, match=rf"{name}: cannot be decoded"):
        decode_raster(path)


def test_not_an_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("hello")
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode_raster(path)


@pytest.mark.parametrize("array", [RAMP8, RAMP16])
def test_ct_as_grey_raster_is_refused(write_image, array):
    with pytest.raises(ImageError, match=r"expected CT in HU, got an (8|16)-bit PNG"):
        read_raster(write_image(array), ReadOptions(modality="CT"))


def test_unknown_kind_and_plane_for_a_volume(tmp_path, write_image):
    (tmp_path / "a.xyz").write_text("hello")
    with pytest.raises(ImageError, match=r"unknown kind of image.*\n.*Supported: PNG"):
        read_file(tmp_path / "a.xyz", ReadOptions())
    with pytest.raises(ImageError, match="expected a volume"):
        read_file(write_image(RAMP8), ReadOptions(volumes=True))
