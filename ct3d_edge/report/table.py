"""Records as a narrow table with notes below it, as the tutorial's sentences, and compared with class folders."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ct3d_edge.formatting import list_names, plural, truncate_middle, wrap
from ct3d_edge.results.record import ResultRecord

MEASURED_NUMBER = re.compile(r"(?<![\w.:/\\-])-?\d+(?:\.\d+)?(?![\w/\\:-]|\.\w)")
"""A measured number; not the digits of a name, path, UID or time."""

MAX_NAMED_SCANS = 3
"""Scans that are named below a message."""

CodeAndSentence = tuple[str, str]
"""Code and sentence."""


@dataclass(frozen=True)
class GroupedMessage:
    """A message and the positions of the scans it concerns."""

    code: str
    sentence: str
    scans: tuple[int, ...]

    def format(self, names: Sequence[str], width: int, number: int | None = None, what: str = "scan") -> str:
        """Lines of at most ``width`` characters: the message, then its scans where they are not obvious.

        Parameters
        ----------
        names
            Of all scans, as the table shows them.
        width
            Columns of the terminal.
        number
            By which rows of the table refer to the note.
        what
            Noun for what the positions count.
        """
        head = "" if number is None else f"[{number}] "
        lines = wrap(f"{head}{self.code}: {self.sentence}", width, indent=4)
        obvious = len(names) == 1 or (len(self.scans) == 1 and self.sentence.startswith(f"{names[self.scans[0]]} "))
        return lines if obvious else f"{lines}\n{wrap('    ' + self.describe_scans(names, what), width)}"

    def describe_scans(self, names: Sequence[str], what: str = "scan") -> str:
        """The scans by count, and a few of them by name."""
        count = plural(len(self.scans), what)
        if len(self.scans) == len(names):
            return f"all {count}"
        return f"{count}: {list_names([names[scan] for scan in self.scans], MAX_NAMED_SCANS)}"


def group_messages(messages: Sequence[Iterable[CodeAndSentence]], paths: Sequence[str]) -> list[GroupedMessage]:
    """Group messages that differ only in measured numbers or in their scan's name, in order of appearance.

    Parameters
    ----------
    messages
        Of each scan.
    paths
        The scans, in the same order.
    """
    groups: dict[CodeAndSentence, dict[int, str]] = {}
    for scan, (path, of_scan) in enumerate(zip(paths, messages, strict=True)):
        for code, sentence in of_scan:
            template = MEASURED_NUMBER.sub("#", _replace_scan_name(sentence, path))
            groups.setdefault((code, template), {})[scan] = sentence
    return [GroupedMessage(code, _merge_sentences(group, paths), tuple(group)) for (code, _), group in groups.items()]


def _merge_sentences(group: dict[int, str], paths: Sequence[str]) -> str:
    """One sentence of several: a number that varies becomes its range."""
    if len(set(group.values())) == 1:
        return next(iter(group.values()))
    sentences = [_replace_scan_name(sentence, paths[scan]) for scan, sentence in group.items()]
    columns = iter(list(zip(*map(MEASURED_NUMBER.findall, sentences), strict=True)))
    return MEASURED_NUMBER.sub(lambda _: _format_range(next(columns)), sentences[0])


def _format_range(numbers: Sequence[str]) -> str:
    low, high = min(numbers, key=float), max(numbers, key=float)
    return low if float(low) == float(high) else f"{low} to {high}"


def _replace_scan_name(sentence: str, path: str) -> str:
    """The sentence with ``the file`` instead of its scan's name."""
    name = Path(path).name
    if name and sentence.startswith(f"{name} "):
        sentence = "The file" + sentence.removeprefix(name)
    return re.sub(rf"(?<![\w./\\-]){re.escape(name)}(?![\w/\\-])", "the file", sentence) if name else sentence


DEMO_MODEL_CODE = "demonstration_model"
"""Code of a flag of every prediction of a model: it comes last, and rows do not refer to it."""

OOD_CODE = "out_of_distribution"
"""Code of the quality flag without which no confidence is shown."""

STATUS_STYLES = {"ok": "green", "warn": "yellow", "refused": "magenta", "error": "red"}

MAX_CLASS_COLUMNS = 4
"""Classes with a column each; with more, only the probability of the predicted class is shown."""

MIN_NAME_WIDTH = 12
"""Columns that a scan's name keeps, however narrow the terminal."""


def make_plain_table(*titles: str) -> Table:
    """A table with a line below its header and none between its columns."""
    return Table(*titles, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def make_results_table(
    records: Sequence[ResultRecord], labels: Sequence[str], printable: Callable[[str], str], width: int
) -> Group:
    """One row a record: scan, status, prediction, probability, time; below, the threshold and each message once.

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
    shown = tuple(labels[1:] if len(labels) == 2 else labels if len(labels) <= MAX_CLASS_COLUMNS else ())
    notes = _group_record_messages(records)
    cells = [_record_cells(record, shown, printable) for record in records]
    references = [_format_note_numbers(notes, scan) for scan in range(len(records))] if len(records) > 1 else []
    titles = ["status", "prediction", *(printable(label) for label in shown or ["probability"]), "ms"]
    titles += ["notes"] if any(references) else []
    if any(references):
        cells = [[*row, Text(reference)] for row, reference in zip(cells, references, strict=True)]
    taken = sum(max(map(len, column)) + 2 for column in zip(titles, *cells, strict=True))
    names = list(map(printable, shorten_names([record.scan for record in records], width - taken)))
    table = make_plain_table()
    table.add_column("scan", overflow="fold")
    for title in titles:
        words = title in ("status", "prediction", "notes")
        table.add_column(Text(title), justify="left" if words else "right", overflow="fold")
    for name, row in zip(names, cells, strict=True):
        table.add_row(Text(name), *row)
    lines = [*_format_thresholds(records, labels, printable), *_format_notes(notes, names, printable, width)]
    return Group(table, *map(Text, lines))


def shorten_names(paths: Sequence[str], width: int) -> list[str]:
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
    short = [truncate_middle(name, max(width, MIN_NAME_WIDTH)) for name in names]
    return short if len(set(short)) == len(set(names)) else names


def _record_cells(record: ResultRecord, shown: Sequence[str], printable: Callable[[str], str]) -> list[Text]:
    prediction = record.prediction
    probability = dict(prediction.probability) if prediction else {}
    numbers = [probability.get(label) for label in shown] or [prediction.confidence if prediction else None]
    return [
        Text(record.status, STATUS_STYLES[record.status]),
        Text(printable(prediction.label) if prediction else ""),
        *(Text("" if number is None else f"{number:.4f}") for number in numbers),
        Text(f"{record.timing.total:.0f}"),
    ]


def _group_record_messages(records: Sequence[ResultRecord]) -> list[GroupedMessage]:
    notes = group_messages([list(_record_messages(record)) for record in records], [record.scan for record in records])
    return sorted(notes, key=lambda note: note.code == DEMO_MODEL_CODE)


def _record_messages(record: ResultRecord) -> Iterator[CodeAndSentence]:
    failure = record.failure
    if failure:
        yield failure.code, failure.message
    for flag in record.flags:
        # What a scan was refused for is among its quality flags, too.
        if failure is None or flag.code != failure.code:
            yield flag.code, flag.detail


def _format_note_numbers(notes: Sequence[GroupedMessage], scan: int) -> str:
    """Numbers of the notes that concern a scan."""
    return " ".join(
        str(number) for number, note in enumerate(notes, 1) if scan in note.scans and note.code != DEMO_MODEL_CODE
    )


def _format_notes(
    notes: Sequence[GroupedMessage], names: Sequence[str], printable: Callable[[str], str], width: int
) -> Iterator[str]:
    for number, note in enumerate(notes, 1):
        of_model = note.code == DEMO_MODEL_CODE
        safe = GroupedMessage(note.code, printable(note.sentence), note.scans)
        alone = of_model or len(names) == 1
        yield safe.format(names[:1] if of_model else names, width, None if alone else number)


def _format_thresholds(
    records: Sequence[ResultRecord], labels: Sequence[str], printable: Callable[[str], str]
) -> list[str]:
    """The threshold of the second class, where it is not one half."""
    thresholds = {record.prediction.threshold for record in records if record.prediction}
    return [
        f"threshold: {printable(labels[1])} at {threshold:.2f} or above"
        for threshold in sorted(value for value in thresholds if value is not None)
        if threshold != 0.5  # what everybody expects
    ]


def format_confidences(record: ResultRecord) -> list[str]:
    """What the tutorial prints for a scan: how confident the model is of each class, in percent.

    For a scan out of distribution each sentence has a note.
    """
    if record.prediction is None:
        return []
    unlike = any(flag.code == OOD_CODE for flag in record.flags)
    note = " (unreliable: the scan is unlike the training scans)"
    return [
        f"This model is {100 * probability:.2f} percent confident that CT scan is {label}{note if unlike else ''}"
        for label, probability in record.prediction.probability
    ]


def find_folder_class(scan: str, labels: Sequence[str]) -> str | None:
    """Find the class that the nearest folder of a scan is named after, in whatever case; None if there is none."""
    names = {label.casefold(): label for label in labels}
    path = Path(scan)  # a DICOM series is a folder itself
    return next((names[at.name.casefold()] for at in (path, *path.parents) if at.name.casefold() in names), None)


def compare_with_class_folders(records: Sequence[ResultRecord], labels: Sequence[str]) -> list[str]:
    """Count the correct predictions of each class, and name the wrong ones.

    Returns
    -------
    Sentences; none unless predicted scans are in the folders of at least two classes. One folder may have the name of a
    class by chance.
    """
    pairs = [(find_folder_class(record.scan, labels), record) for record in records]
    known = [(label, record.prediction.label, record.scan) for label, record in pairs if label and record.prediction]
    classes = [label for label in labels if any(true == label for true, _, _ in known)]
    if len(classes) < 2:
        return []
    counts = [
        f"{label} {sum(found == label for true, found, _ in known if true == label)} of "
        f"{sum(true == label for true, _, _ in known)}"
        for label in classes
    ]
    wrong = [Path(scan).name for true, found, scan in known if true != found]
    right = f"{len(known) - len(wrong)} of {plural(len(known), 'prediction')}"
    summary = f"{right} right by class folder ({', '.join(counts)})"
    return [summary, *([f"wrong: {list_names(wrong)}"] if wrong else [])]
