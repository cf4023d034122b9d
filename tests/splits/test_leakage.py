"""Nothing stands on two sides: no content and no patient."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from ct3d_edge.errors import DatasetError
from ct3d_edge.splits.create import Group, assign_groups, create_split
from ct3d_edge.splits.split import Duplicate, Split

from .conftest import Fill


def table(folder: Path, rows: Sequence[tuple[str, str]], header: str = "scan,patient") -> Path:
    path = folder.parent / "patients.csv"
    path.write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    return path


def by_patient(folder: Path, size: int) -> list[tuple[str, str]]:
    """Every ``size`` scans of a class are one patient's."""
    scans = sorted(path.relative_to(folder) for path in folder.rglob("*.nii.gz"))
    return [(scan.as_posix(), f"{scan.parts[0]}-{int(scan.name[-11:-7]) // size}") for scan in scans]


def sides(split: Split) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in split.entries:
        found.setdefault(str(entry.patient), set()).add(entry.subset)
    return found


# Content -----------------------------------------------------------------------------------------------------


def test_a_duplicate_counts_once_and_is_reported(fill: Fill) -> None:
    folder = fill({"a": 10, "b": 10})
    content = (folder / "a" / "a_0004.nii.gz").read_bytes()
    (folder / "a" / "again.nii.gz").write_bytes(content)
    (folder / "a" / "0_first.nii.gz").write_bytes(content)
    split = create_split(folder, test=0.2)
    # The first by name stays, so that the order of listing does not choose.
    expected = (Duplicate("a/a_0004.nii.gz", "a/0_first.nii.gz"), Duplicate("a/again.nii.gz", "a/0_first.nii.gz"))
    assert split.duplicates == expected
    assert len(split.entries) == len({entry.sha256 for entry in split.entries}) == 20


def test_duplicates_do_not_fill_a_class(fill: Fill) -> None:
    folder = fill({"a": 5, "b": 1})
    (folder / "b" / "copy.nii.gz").write_bytes((folder / "b" / "b_0000.nii.gz").read_bytes())
    with pytest.raises(DatasetError, match=r"Class b has 1 scan; at least 2"):
        create_split(folder)


def test_one_content_under_two_classes_is_refused(fill: Fill) -> None:
    folder = fill({"a": 3, "b": 3})
    (folder / "b" / "twin.nii.gz").write_bytes((folder / "a" / "a_0001.nii.gz").read_bytes())
    with pytest.raises(
        DatasetError,
        match=r"Under both classes with the same content: 1 scan\.(.|\n)*b/twin\.nii\.gz and a/a_0001\.nii\.gz",
    ):
        create_split(folder)


# Patients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_stays_on_one_side_and_in_one_fold(fill: Fill, seed: int) -> None:
    folder = fill({"a": 40, "b": 60})
    rows = by_patient(folder, 4)
    # Some patients have scans of both classes.
    rows = [(scan, patient.replace("b-0", "a-0").replace("b-1", "a-1")) for scan, patient in rows]
    split = create_split(folder, test=0.2, validation=0.2, seed=seed, folds=3, patients=table(folder, rows))
    assert all(len(subsets) == 1 for subsets in sides(split).values())
    assert {entry.path: entry.patient for entry in split.entries} == dict(rows)
    folds: dict[str | None, set[int | None]] = {}
    for entry in split.entries:
        folds.setdefault(entry.patient, set()).add(entry.fold)
    assert all(len(numbers) == 1 for numbers in folds.values())


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_as_near_as_whole_patients_allow(fill: Fill, seed: int) -> None:
    folder = fill({"a": 40, "b": 60})
    split = create_split(folder, test=0.2, validation=0.2, seed=seed, patients=table(folder, by_patient(folder, 4)))
    # 10 and 15 patients of 4 scans: a fifth of them is a whole number.
    assert [split.count(name, "a") for name in ("train", "validation", "test")] == [24, 8, 8]
    assert [split.count(name, "b") for name in ("train", "validation", "test")] == [36, 12, 12]


@pytest.mark.parametrize("seed", range(10))
def test_patients_of_uneven_size_come_near_the_shares(seed: int) -> None:
    lots = random.Random(seed)  # noqa: S311
    sizes = [lots.choice([1, 1, 1, 2, 2, 3, 6]) for _ in range(60)]
    groups = [Group(f"p{n}", (), (size, 0) if n % 2 else (0, size)) for n, size in enumerate(sizes)]
    totals = [sum(group.counts[label] for group in groups) for label in (0, 1)]
    kept = [round(0.2 * total) for total in totals]
    targets = (tuple(kept), tuple(kept), tuple(t - 2 * k for t, k in zip(totals, kept, strict=True)))
    parts = assign_groups(groups, targets, seed)
    for part, target in zip(parts, targets, strict=True):
        got = [sum(group.counts[label] for group in part) for label in (0, 1)]
        assert got == pytest.approx(target, abs=1)


def test_a_huge_patient_does_not_starve_a_subset(fill: Fill) -> None:
    folder = fill({"a": 30, "b": 30})
    rows = [
        (scan, patient if int(patient[2:]) < 2 else f"{patient[0]}-rest") for scan, patient in by_patient(folder, 1)
    ]
    split = create_split(folder, test=0.2, validation=0.2, patients=table(folder, rows))
    for label in ("a", "b"):
        # 28 scans of one patient, and two single ones for the other subsets.
        assert sorted(split.count(name, label) for name in ("train", "validation", "test")) == [1, 1, 28]


def test_exactly_enough_patients_of_mixed_classes_are_dealt() -> None:
    # Three parts, three mixed patients: each part needs one, wherever the single ones go.
    groups = [Group(f"mixed {n}", (), (1, 5)) for n in range(3)] + [Group(f"only {n}", (), (4, 0)) for n in range(9)]
    parts = assign_groups(groups, ((8, 3), (8, 3), (23, 9)), 0)
    assert [sum(group.counts[1] > 0 for group in part) for part in parts] == [1, 1, 1]


def test_too_few_patients_for_the_subsets(fill: Fill) -> None:
    folder = fill({"a": 6, "b": 6})
    rows = [(scan, patient if patient[0] == "a" else "b") for scan, patient in by_patient(folder, 1)]
    with pytest.raises(DatasetError, match=r"Class b has 6 scans of 1 patient; at least 2 are needed"):
        create_split(folder, patients=table(folder, rows))


def test_too_few_patients_for_the_folds(fill: Fill) -> None:
    folder = fill({"a": 12, "b": 12})
    with pytest.raises(DatasetError, match=r"Class a has 12 scans of 3 patients; at least 4 .* 4 folds\."):
        create_split(folder, folds=4, patients=table(folder, by_patient(folder, 4)))


def test_scans_may_be_named_by_file_and_other_columns_do_not_count(fill: Fill) -> None:
    folder = fill({"a": 2, "b": 2})
    rows = [(f"./a/a_000{n}.nii.gz", f"x{n}", "50") for n in range(2)] + [(f"b_000{n}.nii.gz", "y", "") for n in (0, 1)]
    path = folder.parent / "patients.csv"
    path.write_text("scan,patient,age\n" + "\n".join(map(",".join, rows)), encoding="utf-8-sig")
    with pytest.raises(DatasetError, match=r"Class b has 2 scans of 1 patient"):
        create_split(folder, patients=path)
    path.write_text(path.read_text().replace("1.nii.gz,y", "1.nii.gz,z"))
    assert {entry.patient for entry in create_split(folder, patients=path).entries} == {"x0", "x1", "y", "z"}


def test_a_pair_may_be_named_by_either_file(fill: Fill) -> None:
    folder = fill({"a": 2, "b": 2})
    for ending in (".hdr", ".img"):
        (folder / "a" / f"pair{ending}").write_bytes(ending.encode())
    rows = [*by_patient(folder, 1), ("a/pair.img", "p")]
    split = create_split(folder, patients=table(folder, rows))
    assert next(entry.patient for entry in split.entries if entry.path == "a/pair.hdr") == "p"


def test_duplicates_of_one_patient_are_fine_and_of_two_are_not(fill: Fill) -> None:
    folder = fill({"a": 3, "b": 3})
    rows = by_patient(folder, 1)
    (folder / "a" / "copy.nii.gz").write_bytes((folder / "a" / "a_0001.nii.gz").read_bytes())
    assert len(create_split(folder, patients=table(folder, [*rows, ("copy.nii.gz", "a-1")])).duplicates) == 1
    with pytest.raises(DatasetError, match=r"copy\.nii\.gz and a/a_0001\.nii\.gz have the same .* a-2 and a-1\."):
        create_split(folder, patients=table(folder, [*rows, ("copy.nii.gz", "a-2")]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-7], r"lacks 7 of 8 scans: a/a_0001\.nii\.gz, .*b/b_0001\.nii\.gz and 2 more\."),
        (lambda rows: rows[:-1], r"lacks 1 of 8 scans: b/b_0003\.nii\.gz\."),
        (
            lambda rows: [*rows, *((f"gone{n}", "p") for n in range(6))],
            r"no scan of the folder is named by 6 rows: gone0, gone1, gone2, gone3, gone4 and 1 more\.",
        ),
        (lambda rows: [*rows, (rows[0][0], "else")], r"a_0000\.nii\.gz has two patients, a-0 and else"),
        (lambda rows: [*rows, (rows[0][0], "")], r"row 9: patient is empty"),
        (lambda rows: [*rows, (" ", "p")], r"row 9: scan is empty"),
    ],
)
def test_a_table_that_does_not_fit(fill: Fill, change: object, message: str) -> None:
    folder = fill({"a": 4, "b": 4})
    assert callable(change)
    with pytest.raises(DatasetError, match=message):
        create_split(folder, patients=table(folder, change(by_patient(folder, 1))))


def test_a_file_name_that_fits_two_scans(fill: Fill) -> None:
    folder = fill({"a": 2, "b": 2})
    for label in ("a", "b"):
        (folder / label / "same.nii").write_bytes(label.encode())
    with pytest.raises(DatasetError, match=r"same\.nii could be any of a/same\.nii, b/same\.nii\. Give its path"):
        create_split(folder, patients=table(folder, [("same.nii", "p")]))


def test_a_table_without_its_columns(fill: Fill) -> None:
    folder = fill({"a": 2, "b": 2})
    with pytest.raises(DatasetError, match=r"has no column patient in its first line"):
        create_split(folder, patients=table(folder, [], header="scan,person"))
    with pytest.raises(DatasetError, match=r"has no column scan and no column patient"):
        create_split(folder, patients=table(folder, [], header=""))


def test_a_table_that_cannot_be_read(fill: Fill, tmp_path: Path) -> None:
    folder = fill({"a": 2, "b": 2})
    with pytest.raises(DatasetError, match=r"nowhere\.csv cannot be read: No such file"):
        create_split(folder, patients=tmp_path / "nowhere.csv")
    (tmp_path / "latin.csv").write_bytes("scan,patient\na,Müller\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"latin\.csv cannot be read: 'utf-8' codec"):
        create_split(folder, patients=tmp_path / "latin.csv")
