"""Every DOI and arXiv number of the source stands in docs/references.md, with how it was confirmed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("attacks", "shifts", "reports", "robustbench_rad")
DOI = re.compile(r"10\.\d{4,9}/[^\s\"'`,\]|]+")
ARXIV = re.compile(r"arxiv[:\s./a-z]*(\d{4}\.\d{4,5})", re.IGNORECASE)
ROW = re.compile(r"^\| (?P<reference>.+) \| (?P<users>`.+) \| (?P<confirmed>.+) \|$", re.MULTILINE)
TABLE = ROOT / "docs" / "references.md"


def identifiers(text):
    """DOIs and arXiv numbers of a text, without the punctuation that follows them."""
    found = {f"arXiv:{number}" for number in ARXIV.findall(text)}
    for doi in DOI.findall(text):
        doi = re.sub(r";(?!2-).*$", "", doi).rstrip(".:;")
        while doi.endswith(")") and doi.count(")") > doi.count("("):
            doi = doi[:-1].rstrip(".:;")
        found.add(doi)
    return found


def sources():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            linked = any(parent.is_symlink() for parent in path.parents)  # `make links`
            if path.suffix in (".py", ".toml") and not linked:
                yield path


@pytest.fixture(scope="module")
def used():
    """Identifiers of the source and the files that name them."""
    found = {}
    for path in sources():
        for identifier in identifiers(path.read_text(encoding="utf-8")):
            found.setdefault(identifier, []).append(path.relative_to(ROOT).as_posix())
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(Otsu 1979, doi:10.1109/TSMC.1979.4310076).", {"10.1109/TSMC.1979.4310076"}),
        ("10.1016/S0734-189X(87)80186-X; Zuiderveld", {"10.1016/S0734-189X(87)80186-X"}),
        ("doi:10.1016/S2589-7500(21)00106-0).", {"10.1016/S2589-7500(21)00106-0"}),
        ("10.1002/(SICI)1:8<891::AID-SIM780>3.0.CO;2-B.", {"10.1002/(SICI)1:8<891::AID-SIM780>3.0.CO;2-B"}),
        ("arXiv 1903.12261, [x](https://arxiv.org/abs/1706.06083)", {"arXiv:1903.12261", "arXiv:1706.06083"}),
        ("10.1118/1.4752209; 10.1002/acm2.13318", {"10.1118/1.4752209", "10.1002/acm2.13318"}),
        ("version 10.1, 0.5/1", set()),
    ],
)
def test_identifiers_are_read_whole(text, expected):
    assert identifiers(text) == expected


def test_every_identifier_of_the_source_is_in_the_table(used):
    listed = identifiers(TABLE.read_text(encoding="utf-8"))
    missing = {identifier: files for identifier, files in used.items() if identifier not in listed}
    assert not missing, f"add these to docs/references.md, with how they were confirmed: {missing}"


def test_every_row_names_who_uses_it_and_how_it_was_confirmed():
    rows = list(ROW.finditer(TABLE.read_text(encoding="utf-8")))
    assert len(rows) > 100
    assert {row["confirmed"] for row in rows} == {"found in public documentation", "not confirmed"}
    with_identifier = [row for row in rows if identifiers(row["reference"])]
    assert all(row["confirmed"] == "found in public documentation" for row in with_identifier)
