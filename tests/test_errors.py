import re

import pytest

from ct3d_edge import errors
from ct3d_edge.errors import Ct3dError, RefusedScanError, ScanError, UnreadableScanError

BRANCH = re.compile(r"^    (?P<indent>[│ ]*)[├└]── (?P<name>\w+)(?: +exit (?P<code>\d+))? ")


def classes() -> list[type[Ct3dError]]:
    """Every error of the module, the base included."""
    return [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Ct3dError)]


def drawn_tree() -> dict[str, tuple[str, int | None]]:
    """Name to parent's name and exit code, as the module's docstring draws them."""
    tree: dict[str, tuple[str, int | None]] = {}
    above = ["Ct3dError"]
    for match in filter(None, map(BRANCH.match, (errors.__doc__ or "").splitlines())):
        depth = len(match["indent"]) // 4
        above[depth + 1 :] = [match["name"]]
        tree[match["name"]] = (above[depth], int(match["code"]) if match["code"] else None)
    return tree


def test_the_tree_that_is_drawn_is_the_tree_that_is_there() -> None:
    there = {error.__name__: error.__mro__[1].__name__ for error in classes() if error is not Ct3dError}
    assert {name: parent for name, (parent, _) in drawn_tree().items()} == there


@pytest.mark.parametrize("name", drawn_tree())
def test_exit_codes_are_as_drawn_and_inherited_where_none_is(name: str) -> None:
    parent, code = drawn_tree()[name]
    expected = getattr(errors, parent).exit_code if code is None else code
    assert getattr(errors, name).exit_code == expected


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Ct3dError", 3),
        ("UsageError", 2),
        ("WorkerError", 71),
        ("ScanError", 1),
        ("UnreadableScanError", 1),
        ("RefusedScanError", 1),
        ("DatasetError", 2),
        ("ModelError", 3),
        ("ContractError", 3),
        ("DownloadError", 3),
        ("ProviderError", 3),
        ("MissingExtraError", 3),
        ("OutputError", 73),
        ("DiskError", 74),
        ("CheckFailedError", 4),
        ("InconclusiveError", 5),
    ],
)
def test_exit_codes_are_those_that_scripts_rely_on(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code


def test_every_error_has_its_exit_code_checked() -> None:
    assert {error.__name__ for error in classes()} == {"Ct3dError", *drawn_tree()}


@pytest.mark.parametrize("error", [ScanError, UnreadableScanError, RefusedScanError])
def test_a_scan_error_carries_its_code_apart_from_its_message(error: type[ScanError]) -> None:
    raised = error("truncated", "It ends too early.")
    assert raised.code == "truncated"
    assert str(raised) == "It ends too early."
