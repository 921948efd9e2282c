import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_rad.data.labels import (
    parse_label,
    parse_number_label,
    read_table,
    refuse_duplicates,
    some,
    table_from_frame,
)
from robustbench_rad.errors import DataError, MissingExtraError

KNOWN = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, " 1 ": 1.0}


@pytest.mark.parametrize(("text", "value"), KNOWN.items())
def test_known_labels(text, value):
    assert parse_label(text, "unknown") == value


@pytest.mark.parametrize(("uncertain", "value"), [("unknown", math.nan), ("positive", 1.0), ("negative", 0.0)])
def test_uncertain(uncertain, value):
    for text in ("-1", "-1.0"):
        assert parse_label(text, uncertain) == pytest.approx(value, nan_ok=True)


@given(st.text())
def test_any_other_text_is_refused(text):
    plain = text.strip()
    if plain in ("", "0", "1", "-1", "0.0", "1.0", "-1.0"):
        parse_label(text, "unknown")
        return
    with pytest.raises(ValueError, match="expected 1, 0, -1 or empty"):
        parse_label(text, "unknown")


@given(st.one_of(st.none(), st.integers(), st.floats()))
def test_numbers(number):
    if number is None or number != number:
        assert math.isnan(parse_number_label(number, "positive"))
    elif number in (0, 1, -1):
        assert parse_number_label(number, "positive") == abs(number)
    else:
        with pytest.raises((ValueError, OverflowError)):
            parse_number_label(number, "positive")


def test_csv_with_semicolons_quotes_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffimage;label\n"a\nb.png";1\n\nc.png;0\n'.encode())
    table = read_table(path)
    assert table.columns == ("image", "label")
    assert table.column("image", what="image") == ["a\nb.png", "c.png"]
    assert table.lines == (3, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "manifest is empty"),
        (b"image,label\n", "has a header but no cases"),
        (b"image,label\na.png\n", "line 2: expected 2 cells as in the header, got 1"),
        (b"image,image\na,b\n", "column name twice: image"),
        (b"image,label\n\xff\xfe,1\n", "expected UTF-8 text"),
        (b'image,label\n"a,1\n', "not a valid CSV file"),
    ],
)
def test_bad_csv(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_missing_manifest(tmp_path):
    with pytest.raises(DataError, match=r"no.csv: no such file; expected a manifest"):
        read_table(tmp_path / "no.csv")


def test_parquet_needs_an_extra_or_is_read(tmp_path):
    import pandas as pd

    path = tmp_path / "a.parquet"
    try:
        pd.DataFrame({"image": ["a.png"], "label": [1.0]}).to_parquet(path)
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(MissingExtraError, match=r"pip install 'robustbench-rad\[parquet\]'"):
            read_table(path)
    else:
        assert read_table(path).rows == (("a.png", "1.0"),)


def test_cells_of_a_data_frame_become_text(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"a": [1.0, None], "b": [True, False], "c": ["x ", None], "d": pd.array([1, None], "Int64")})
    assert table_from_frame(tmp_path, frame).rows == (("1.0", "1", "x", "1"), ("", "0", "", ""))


def test_missing_column_lists_columns_and_suggests(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,label_Effusion\na.png,1\n")
    with pytest.raises(DataError) as raised:
        read_table(path).column("label_effusion", what="labels of 'effusion'")
    assert "the columns are: image, label_Effusion" in str(raised.value)
    assert "Did you mean 'label_Effusion'?" in str(raised.value)


def test_duplicates_are_listed():
    with pytest.raises(DataError, match=r"here: duplicate case ids: a, b"):
        refuse_duplicates(["a", "b", "a", "b", "a", "c"], "here")


@given(st.lists(st.integers(), max_size=20))
def test_some_never_drops_silently(items):
    text = some(items)
    assert len(items) <= 5 or text.endswith(f"and {len(items) - 5} more")
