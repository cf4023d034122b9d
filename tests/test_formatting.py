import re
from pathlib import Path

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import format_bytes, format_value, list_names, parse_size, plural, truncate_middle, wrap

PACKAGE = Path(__file__).parents[1] / "ct3d_edge"


@pytest.mark.parametrize(("count", "text"), [(0, "0 scans"), (1, "1 scan"), (2, "2 scans"), (12000, "12000 scans")])
def test_plural(count: int, text: str) -> None:
    assert plural(count, "scan") == text


def test_plural_of_its_own() -> None:
    assert (plural(1, "series", "series"), plural(2, "series", "series")) == ("1 series", "2 series")


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [("abc", 3, "abc"), ("abcdefghij", 9, "abc...hij"), ("abcdefghij", 8, "ab...hij"), ("abcdefghij", 1, "a...j")],
)
def test_shorten_leaves_out_the_middle(text: str, width: int, short: str) -> None:
    assert truncate_middle(text, width) == short


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (22_180_000, "22.2 MB"),
        (4_960_000_000, "4.96 GB"),
        (3e15, "3,000 TB"),
    ],
)
def test_sizes_have_a_unit_in_which_they_are_not_nothing(count: float, text: str) -> None:
    assert format_bytes(count) == text


def test_list_names_writes_one_more_rather_than_counting_it() -> None:
    assert list_names(["a", "b", "c", "d"]) == "a, b, c, d"
    assert list_names(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert list_names([]) == ""


def test_wrap_breaks_only_lines_that_are_too_long() -> None:
    assert wrap("a  b\n  one two-three four\n", 13, 2) == "a  b\n  one\n    two-three\n    four"
    assert wrap("x" * 25, 20) == "x" * 20 + "\n" + "x" * 5
    assert wrap("a " + "x" * 25, 20, 2, cut_words=False) == "a\n  " + "x" * 25


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"cpu": 5, "gpu": None}, "cpu: 5, gpu: none"),
        ([1, [True, "a"]], "1, yes, a"),
        ({"a": {"b": False}}, "a: b: no"),
        ({"a": []}, "a: none"),
        (1, "1"),
        (0.5, "0.5"),
        ("", ""),
    ],
)
def test_plain_data_is_shown_without_brackets(value: object, text: str) -> None:
    assert format_value(value) == text


def test_sizes_are_written_in_one_place() -> None:
    """A size in a fixed unit becomes "0.0 GB" where it is small."""
    fixed = re.compile(r"\{[^{}]+\} ?[kKMGT]i?B\b(?!/s)")
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if fixed.search(path.read_text())}
    assert found <= {"formatting.py"}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500", 500),
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("1.5 gib", 3 << 29),
        (" 64 KiB ", 64 << 10),
        ("2TB", 2 * 10**12),
        ("512 B", 512),
        (1000, 1000),
        (None, None),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: int | str | None, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", 0, -1, "much", "-1GB", "1e9", "2TBB", "0", "0GB", "GB", "1,5GB", "inf"])
def test_anything_else_is_refused(text: int | str) -> None:
    with pytest.raises(UsageError, match="500MB or 2GB"):
        parse_size(text)
