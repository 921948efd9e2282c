import dataclasses

import numpy as np
import pytest

from robustbench_rad.errors import RunFolderError
from robustbench_rad.scores import CLEAN, Chunk, Column, Quantity, ScoreTable, write_atomic

VECTOR = ("shortcut.scanner-probe", "features")


def chunk(cases=("b", "a"), value=1.0):
    columns = (
        Column(condition=CLEAN, level="", finding="x"),
        Column(condition="attack.fgsm", level="1/255", finding="x"),
    )
    margins = np.array([[value, np.nan], [-value, 0.5]], np.float32)
    quantity = Quantity(condition="shift.xr.dose", name="noise_sd", level="0.5")
    return Chunk(
        cases=cases,
        columns=columns,
        margins=margins,
        quantities=(quantity,),
        values=np.array([[0.1], [np.nan]], np.float32),
        passes={"attack.fgsm": (2, 1)},
        full_search=(("attack.fgsm", "1/255"),),
        attributes=(("shift.xr.dose", "0.5", "Exposure", str(value)),),
        vectors={VECTOR: np.array([[value, 1.0], [np.nan, 2.0]], np.float32)},
    )


def test_written_chunk_reads_back_the_same(tmp_path):
    path = tmp_path / "0.npz"
    chunk(cases=("ä", "a\tb")).write(path)
    read = Chunk.read(path)
    for field in dataclasses.fields(Chunk):
        left, right = getattr(read, field.name), getattr(chunk(cases=("ä", "a\tb")), field.name)
        if field.name == "vectors":
            assert list(left) == list(right)
            np.testing.assert_array_equal(left[VECTOR], right[VECTOR])
        elif isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
        else:
            assert left == right
    assert list(tmp_path.iterdir()) == [path]


def flip(raw):
    return raw[:100] + bytes([raw[100] ^ 1]) + raw[101:]


@pytest.mark.parametrize("damage", [flip, lambda raw: raw[:-7], lambda raw: b"", lambda raw: raw + b"x"])
def test_damaged_chunk_is_refused_and_named(tmp_path, damage):
    path = tmp_path / "0.npz"
    chunk().write(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunFolderError, match=r"0\.npz: damaged chunk") as caught:
        Chunk.read(path)
    assert "Delete this file" in caught.value.hint


def test_missing_chunk(tmp_path):
    with pytest.raises(RunFolderError, match="damaged chunk"):
        Chunk.read(tmp_path / "absent.npz")


def test_atomic_write_replaces_whole_files_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def power_cut(_descriptor):
        raise OSError("power cut")

    monkeypatch.setattr("os.fsync", power_cut)
    with pytest.raises(OSError, match="power cut"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_what_headers_would_say_is_joined_over_chunks():
    table = ScoreTable.join([chunk(cases=("c", "d"), value=3.0), chunk()], ["a", "b", "c", "d"])
    assert table.header("shift.xr.dose", "0.5") == {"Exposure": ("1.0", "3.0")}
    assert table.header("shift.xr.dose", "0.25") == {}


def test_reasons_of_all_chunks_are_kept_whatever_their_order():
    parts = [
        dataclasses.replace(chunk(cases=cases), reasons=(("attack.fgsm", "1/255", why),))
        for cases, why in ((("a", "b"), "too small"), (("c", "d"), "no mask"), (("e", "f"), "too small"))
    ]
    for order in (parts, parts[::-1]):
        assert ScoreTable.join(order, list("abcdef")).reasons == {("attack.fgsm", "1/255"): "no mask; too small"}


def test_joined_chunks_are_in_the_order_of_the_case_table():
    second = dataclasses.replace(chunk(cases=("c", "d"), value=3.0), full_search=())
    table = ScoreTable.join([second, chunk()], ["a", "b", "c", "d", "e"])
    np.testing.assert_array_equal(table.clean("x"), np.array([-1, 1, 3, -3, np.nan], np.float32))
    np.testing.assert_array_equal(table.margins("attack.fgsm", "1/255", "x"), [0.5, np.nan, np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(
        table.measured("shift.xr.dose", "noise_sd", "0.5"), np.array([np.nan, 0.1, 0.1, np.nan, np.nan], np.float32)
    )
    assert table.full_search == {("attack.fgsm", "1/255")}


def test_what_was_never_evaluated_is_nan():
    table = ScoreTable.join([chunk()], ["a", "b"])
    assert np.isnan(table.clean("y")).all()
    assert np.isnan(table.measured("shift.xr.dose", "other")).all()
    assert table.margins("none", "", "x").shape == (2,)
    only_clean = dataclasses.replace(chunk(cases=("c",)), columns=(), margins=np.zeros((1, 0), np.float32),
                                     quantities=(), values=np.zeros((1, 0), np.float32), vectors={})  # fmt: skip
    assert np.isnan(ScoreTable.join([chunk(), only_clean], ["a", "b", "c"]).clean("x")[2])


def test_vectors_are_joined_in_the_order_of_the_cases():
    without = dataclasses.replace(chunk(cases=("d", "c")), vectors={})
    table = ScoreTable.join([chunk(), without], ["a", "b", "c", "d"])
    np.testing.assert_array_equal(table.vector(*VECTOR), [[np.nan, 2.0], [1.0, 1.0], [np.nan] * 2, [np.nan] * 2])
    assert table.vector("nothing", "features").shape == (4, 0)
