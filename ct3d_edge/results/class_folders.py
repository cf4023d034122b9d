"""Answers compared with the class folders in which the scans lie, as far as these are named after classes."""

from collections.abc import Sequence
from pathlib import Path

from ct3d_edge.formatting import list_names, plural
from ct3d_edge.results.record import ResultRecord


def find_folder_class(scan: str, labels: Sequence[str]) -> str | None:
    """Find the class that the nearest folder of a scan is named after, in whatever case; None if there is none."""
    names = {label.casefold(): label for label in labels}
    path = Path(scan)  # a DICOM series is a folder itself
    return next((names[at.name.casefold()] for at in (path, *path.parents) if at.name.casefold() in names), None)


def compare_with_class_folders(records: Sequence[ResultRecord], labels: Sequence[str]) -> list[str]:
    """Count the right answers, for each class, and name the wrong ones.

    Returns
    -------
    Sentences; none unless answered scans lie in the folders of at least two classes. One folder may bear the name of a
    class by chance.
    """
    pairs = [(find_folder_class(record.scan, labels), record) for record in records]
    answers = [(known, record.prediction.label, record.scan) for known, record in pairs if known and record.prediction]
    classes = [label for label in labels if any(known == label for known, _, _ in answers)]
    if len(classes) < 2:
        return []
    counts = [
        f"{label} {sum(answer == label for known, answer, _ in answers if known == label)} of "
        f"{sum(known == label for known, _, _ in answers)}"
        for label in classes
    ]
    wrong = [Path(scan).name for known, answer, scan in answers if known != answer]
    summary = (
        f"{len(answers) - len(wrong)} of {plural(len(answers), 'answer')} right by class folder ({', '.join(counts)})"
    )
    return [summary, *([f"wrong: {list_names(wrong)}"] if wrong else [])]
