"""Messages about many scans, each written once with the scans it concerns."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.formatting import list_names, plural, wrap

NUMBER = re.compile(r"(?<![\w.:/\\-])-?\d+(?:\.\d+)?(?![\w/\\:-]|\.\w)")
"""A measured number; not the digits of a name, path, UID or time."""

NAMED = 3
"""Scans that are named below a message."""

Message = tuple[str, str]
"""Code and sentence."""


@dataclass(frozen=True)
class Note:
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
        return f"{count}: {list_names([names[scan] for scan in self.scans], NAMED)}"


def group_messages(messages: Sequence[Iterable[Message]], paths: Sequence[str]) -> list[Note]:
    """Group messages that differ only in measured numbers or in their scan's name, in order of appearance.

    Parameters
    ----------
    messages
        Of each scan.
    paths
        The scans, in the same order.
    """
    groups: dict[Message, dict[int, str]] = {}
    for scan, (path, of_scan) in enumerate(zip(paths, messages, strict=True)):
        for code, sentence in of_scan:
            template = NUMBER.sub("#", _without_name(sentence, path))
            groups.setdefault((code, template), {})[scan] = sentence
    return [Note(code, _merge(group, paths), tuple(group)) for (code, _), group in groups.items()]


def _merge(group: dict[int, str], paths: Sequence[str]) -> str:
    """One sentence of several: a number that varies becomes its range."""
    if len(set(group.values())) == 1:
        return next(iter(group.values()))
    sentences = [_without_name(sentence, paths[scan]) for scan, sentence in group.items()]
    columns = iter(list(zip(*map(NUMBER.findall, sentences), strict=True)))
    return NUMBER.sub(lambda _: _range(next(columns)), sentences[0])


def _range(numbers: Sequence[str]) -> str:
    low, high = min(numbers, key=float), max(numbers, key=float)
    return low if float(low) == float(high) else f"{low} to {high}"


def _without_name(sentence: str, path: str) -> str:
    """The sentence with ``the file`` in place of its scan's name."""
    name = Path(path).name
    if name and sentence.startswith(f"{name} "):
        sentence = "The file" + sentence.removeprefix(name)
    return re.sub(rf"(?<![\w./\\-]){re.escape(name)}(?![\w/\\-])", "the file", sentence) if name else sentence
