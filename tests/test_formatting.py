import pytest

from ct3d_edge.formatting import list_names, plural, shorten, wrap


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
    assert shorten(text, width) == short


def test_list_names_writes_one_more_rather_than_counting_it() -> None:
    assert list_names(["a", "b", "c", "d"]) == "a, b, c, d"
    assert list_names(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert list_names([]) == ""


def test_wrap_breaks_only_lines_that_are_too_long() -> None:
    assert wrap("a  b\n  one two-three four\n", 13, 2) == "a  b\n  one\n    two-three\n    four"
    assert wrap("x" * 25, 20) == "x" * 20 + "\n" + "x" * 5
