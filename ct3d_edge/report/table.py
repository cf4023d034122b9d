"""Records as a table, and as the tutorial's sentences."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ct3d_edge.results import Record

OF_THE_MODEL = "demonstration_model"
"""Code of what holds for every answer of a model, and is said once where there are several."""

STYLES = {"ok": "green", "warn": "yellow", "refused": "magenta", "error": "red"}


def results_table(records: Sequence[Record], labels: Sequence[str], printable: Callable[[str], str]) -> Table:
    """One row a record: scan, status, answer, a probability for each class, time, remarks.

    ``printable`` makes names safe to show. What holds for every answer is left to `model_sentences`.
    """
    table = Table(header_style="bold")
    table.add_column("scan", overflow="fold")
    table.add_column("status")
    table.add_column("answer")
    for label in labels:
        table.add_column(Text(printable(label)), justify="right")
    table.add_column("ms", justify="right")
    table.add_column("remarks", overflow="fold")
    names = short_names([record.scan for record in records])
    for name, record in zip(names, records, strict=True):
        table.add_row(Text(printable(name)), *_cells(record, labels, printable, alone=len(records) == 1))
    return table


def model_sentences(records: Sequence[Record]) -> list[str]:
    """What holds for every answer and belongs below the table; nothing of a single scan, whose row says it."""
    said = [f"{f.code}: {f.detail}" for record in records for f in record.findings if f.code == OF_THE_MODEL]
    return list(dict.fromkeys(said)) if len(records) > 1 else []


def short_names(paths: Sequence[str]) -> list[str]:
    """File names where they are unique, else the paths as they are."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def _cells(record: Record, labels: Sequence[str], printable: Callable[[str], str], *, alone: bool) -> list[Text]:
    probability = dict(record.answer.probability) if record.answer else {}
    return [
        Text(record.status, STYLES[record.status]),
        Text(printable(record.answer.label) if record.answer else ""),
        *(Text(f"{probability[label]:.4f}" if label in probability else "") for label in labels),
        Text(f"{record.timing.total:.0f}"),
        Text(printable(_remarks(record, alone=alone))),
    ]


def _remarks(record: Record, *, alone: bool) -> str:
    failure = record.failure
    said = [f"{failure.code}: {failure.message}"] if failure else []
    # What a scan was refused for is among its findings, too.
    others = [finding for finding in record.findings if failure is None or finding.code != failure.code]
    others = [finding for finding in others if alone or finding.code != OF_THE_MODEL]
    return " ".join(said + [f"{finding.code}: {finding.detail}" for finding in others])


def confidence_sentences(record: Record) -> list[str]:
    """What the tutorial prints for a scan: how confident the model is of each class, in percent."""
    if record.answer is None:
        return []
    return [
        f"This model is {100 * probability:.2f} percent confident that CT scan is {label}"
        for label, probability in record.answer.probability
    ]
