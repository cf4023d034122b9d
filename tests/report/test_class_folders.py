from dataclasses import replace

import pytest
from records import ANSWERED, FAILED

from ct3d_edge.report.table import compare_with_class_folders, find_folder_class
from ct3d_edge.results.record import Prediction, ResultRecord

LABELS = ("normal", "abnormal")


def judged(scan: str, label: str | None) -> ResultRecord:
    if label is None:
        return replace(FAILED, scan=scan)
    return replace(ANSWERED, scan=scan, prediction=Prediction(label, (("normal", 0.5), ("abnormal", 0.5)), 0.3))


@pytest.mark.parametrize(
    ("scan", "known"),
    [
        ("scans/normal/a.nii", "normal"),
        ("scans/Abnormal/patient 1/a.nii", "abnormal"),
        ("/normal/scans/abnormal/a.nii", "abnormal"),
        ("ward/normal", "normal"),
        ("ward/normal/1.2.3", "normal"),
        ("scans/abnormality/normal.nii", None),
        ("a.nii", None),
    ],
)
def test_the_nearest_folder_that_is_named_after_a_class_tells_it(scan: str, known: str | None) -> None:
    assert find_folder_class(scan, LABELS) == known


def test_right_answers_are_counted_by_class_and_wrong_ones_named() -> None:
    records = [
        judged("s/normal/a.nii", "normal"),
        judged("s/normal/b.nii", "normal"),
        judged("s/abnormal/c.nii", "normal"),
        judged("s/abnormal/d.nii", "abnormal"),
        judged("s/abnormal/e.nii", None),
        judged("s/elsewhere/f.nii", "abnormal"),
    ]
    assert compare_with_class_folders(records, LABELS) == [
        "3 of 4 predictions right by class folder (normal 2 of 2, abnormal 1 of 2)",
        "wrong: c.nii",
    ]
    assert len(compare_with_class_folders(records[:2] + records[3:4], LABELS)) == 1


def test_one_class_alone_or_without_answers_says_nothing() -> None:
    assert compare_with_class_folders([judged("s/normal/a.nii", "abnormal")], LABELS) == []
    assert (
        compare_with_class_folders([judged("s/normal/a.nii", "normal"), judged("s/abnormal/b.nii", None)], LABELS) == []
    )
    assert compare_with_class_folders([], LABELS) == []
