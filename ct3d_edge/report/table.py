"""Records as a narrow table with notes below it, and as the tutorial's sentences."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ct3d_edge.formatting import shorten
from ct3d_edge.report.notes import Message, Note, group_messages
from ct3d_edge.results import Record

OF_THE_MODEL = "demonstration_model"
"""Code of what holds for every answer of a model: it comes last, and rows do not refer to it."""

UNLIKE_TRAINING = "out_of_distribution"
"""Code of the finding without which no confidence is shown."""

STYLES = {"ok": "green", "warn": "yellow", "refused": "magenta", "refuse": "red", "error": "red"}

MOST_CLASSES = 4
"""Classes with a column each; with more, only the probability of the answer is shown."""

NARROWEST_NAME = 12
"""Columns that a scan's name keeps, however narrow the terminal."""


def plain_table(*titles: str) -> Table:
    """A table with a line below its header and none between its columns."""
    return Table(*titles, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def results_table(
    records: Sequence[Record], labels: Sequence[str], printable: Callable[[str], str], width: int
) -> Group:
    """One row a record: scan, status, answer, probability, time; below, the threshold and each message once.

    Parameters
    ----------
    records
        In the order of their rows.
    labels
        Classes of the model; of two, only the second has a column.
    printable
        Makes names and sentences safe to show.
    width
        Columns of the terminal.
    """
    shown = tuple(labels[1:] if len(labels) == 2 else labels if len(labels) <= MOST_CLASSES else ())
    notes = _notes(records)
    cells = [_cells(record, shown, printable) for record in records]
    references = [_references(notes, scan) for scan in range(len(records))] if len(records) > 1 else []
    titles = ["status", "answer", *(printable(label) for label in shown or ["probability"]), "ms"]
    titles += ["notes"] if any(references) else []
    if any(references):
        cells = [[*row, Text(reference)] for row, reference in zip(cells, references, strict=True)]
    taken = sum(max(map(len, column)) + 2 for column in zip(titles, *cells, strict=True))
    names = list(map(printable, row_names([record.scan for record in records], width - taken)))
    table = plain_table()
    table.add_column("scan", overflow="fold")
    for title in titles:
        words = title in ("status", "answer", "notes")
        table.add_column(Text(title), justify="left" if words else "right", overflow="fold")
    for name, row in zip(names, cells, strict=True):
        table.add_row(Text(name), *row)
    lines = [*_threshold(records, labels, printable), *_lines(notes, names, printable, width)]
    return Group(table, *map(Text, lines))


def row_names(paths: Sequence[str], width: int) -> list[str]:
    """File names, with folders where two are the same; longer ones shortened in the middle while that keeps them apart.

    Parameters
    ----------
    paths
        The scans.
    width
        Columns that a name may take.
    """
    names = [Path(path).name for path in paths]
    if len(set(names)) < len(names):
        common = os.path.commonpath(paths) if len({Path(path).is_absolute() for path in paths}) == 1 else ""
        names = [os.path.relpath(path, common) if common else path for path in paths]
    short = [shorten(name, max(width, NARROWEST_NAME)) for name in names]
    return short if len(set(short)) == len(set(names)) else names


def _cells(record: Record, shown: Sequence[str], printable: Callable[[str], str]) -> list[Text]:
    answer = record.answer
    probability = dict(answer.probability) if answer else {}
    numbers = [probability.get(label) for label in shown] or [answer.confidence if answer else None]
    return [
        Text(record.status, STYLES[record.status]),
        Text(printable(answer.label) if answer else ""),
        *(Text("" if number is None else f"{number:.4f}") for number in numbers),
        Text(f"{record.timing.total:.0f}"),
    ]


def _notes(records: Sequence[Record]) -> list[Note]:
    notes = group_messages([list(_messages(record)) for record in records], [record.scan for record in records])
    return sorted(notes, key=lambda note: note.code == OF_THE_MODEL)


def _messages(record: Record) -> Iterator[Message]:
    failure = record.failure
    if failure:
        yield failure.code, failure.message
    for finding in record.findings:
        # What a scan was refused for is among its findings, too.
        if failure is None or finding.code != failure.code:
            yield finding.code, finding.detail


def _references(notes: Sequence[Note], scan: int) -> str:
    """Numbers of the notes that concern a scan."""
    return " ".join(
        str(number) for number, note in enumerate(notes, 1) if scan in note.scans and note.code != OF_THE_MODEL
    )


def _lines(notes: Sequence[Note], names: Sequence[str], printable: Callable[[str], str], width: int) -> Iterator[str]:
    for number, note in enumerate(notes, 1):
        of_model = note.code == OF_THE_MODEL
        safe = Note(note.code, printable(note.sentence), note.scans)
        alone = of_model or len(names) == 1
        yield safe.format(names[:1] if of_model else names, width, None if alone else number)


def _threshold(records: Sequence[Record], labels: Sequence[str], printable: Callable[[str], str]) -> list[str]:
    """From which probability of the second class on it is the answer, where that is not one half."""
    thresholds = {record.answer.threshold for record in records if record.answer}
    return [
        f"{printable(labels[1])} from {threshold:.2f} on"
        for threshold in sorted(value for value in thresholds if value is not None)
        if threshold != 0.5  # what everybody expects
    ]


def confidence_sentences(record: Record) -> list[str]:
    """What the tutorial prints for a scan: how confident the model is of each class, in percent.

    Where the scan is unlike those of training, each sentence says so.
    """
    if record.answer is None:
        return []
    unlike = any(finding.code == UNLIKE_TRAINING for finding in record.findings)
    doubt = " (unreliable: the scan is unlike the training scans)"
    return [
        f"This model is {100 * probability:.2f} percent confident that CT scan is {label}{doubt if unlike else ''}"
        for label, probability in record.answer.probability
    ]
