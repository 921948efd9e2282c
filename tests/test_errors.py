import pytest

from robustbench_rad import errors


def test_every_error_belongs_to_the_tree():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) >= 8
    assert all(issubclass(kind, errors.RobustbenchRadError) for kind in kinds)
    assert all(kind.__name__ in errors.__doc__ for kind in kinds)


def test_message_and_hint():
    error = errors.ModelError("expected a, got b", hint="Do c.")
    assert str(error) == "expected a, got b\n  Do c."
    assert (error.message, error.hint) == ("expected a, got b", "Do c.")
    assert str(errors.ModelError("expected a, got b")) == "expected a, got b"


def test_missing_extra_holds_the_pip_line():
    error = errors.MissingExtraError("Parquet files", package="pyarrow", extra="parquet")
    assert "pip install 'robustbench-rad[parquet]'" in str(error)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("tolerence", "Did you mean 'tolerance'?"), ("zebra", "Known: critical, tolerance."), ("", "Known: ")],
)
def test_suggestion(word, expected):
    assert errors.suggestion(word, {"tolerance": 1, "critical": 2}).startswith(expected)
