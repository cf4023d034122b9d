"""A folder of scans divided among machines by a hash of each scan's path, and their records put together again."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Self

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import list_names, plural
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.qc_flag import apply_overrides, duplicate_flag


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1.

    A scan belongs to the shard that the SHA-256 of its path names, as it is written in its record: adding scans moves
    no other scan, and every machine that is given the same paths agrees.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard of a text such as ``3/8``.

        Raises
        ------
        UsageError
            If it is none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"A shard is I/N with I from 1 to N, such as 3/8; found {text!r}.")
        return cls(int(found[1]), int(found[2]))

    def select(self, scans: Iterable[Path]) -> list[Path]:
        """Those of some scans that belong to this shard, in their order."""
        return [scan for scan in scans if shard_index(str(scan), self.count) == self.index]

    def require_own(self, scans: Iterable[str], path: Path) -> None:
        """Refuse to go on with a results file of another shard: its records would be lost.

        Raises
        ------
        UsageError
            A scan that the file has a record of belongs to another shard.
        """
        other = next((index for scan in scans if (index := shard_index(scan, self.count)) != self.index), None)
        if other is not None:
            raise UsageError(
                f"{path} holds records of shard {other}/{self.count}, not of {self.index}/{self.count} alone. Give "
                "each shard a results file of its own (`out`)."
            )


def shard_index(scan: str, count: int) -> int:
    """Number of the shard, 1 to ``count``, that a scan with this path belongs to."""
    name = PurePath(scan).as_posix().encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % count + 1


@dataclass(frozen=True)
class MergedRecords:
    """Records of all shards in the order of one run.

    Parameters
    ----------
    records
        One a scan.
    missing
        Scans that no shard has a record of.
    repeated
        Scans that several shards have the same record of; it was taken once.
    """

    records: tuple[ResultRecord, ...]
    missing: tuple[str, ...]
    repeated: tuple[str, ...]


def merge_records(shards: Mapping[str, Sequence[ResultRecord]], scans: Sequence[str] | None = None) -> MergedRecords:
    """Put the records of shards together as one run would have written them.

    Parameters
    ----------
    shards
        Name of each file, for messages, to its records.
    scans
        Paths of all scans in the order of one run; without it the records are sorted by path, files before folders, and
        nothing can be missing.

    Raises
    ------
    UsageError
        Records of another model, contract, precision or of other downgraded checks, or two that differ of one scan.
    """
    _require_same_run(shards)
    merged: dict[str, tuple[str, ResultRecord]] = {}
    repeated: list[str] = []
    for name, records in shards.items():
        for record in records:
            first = merged.get(record.scan)
            if first is None:
                merged[record.scan] = name, record
                continue
            if _result_of(first[1]) != _result_of(record):
                raise UsageError(
                    f"{first[0]} and {name} have different records of {record.scan}. Run one of them again."
                )
            repeated.append(record.scan)
    order = sorted(merged, key=_walk_order) if scans is None else [scan for scan in scans if scan in merged]
    strangers = sorted(set(merged).difference(order))
    if strangers:
        raise UsageError(
            f"{plural(len(strangers), 'record')} of scans that are not among those named: {list_names(strangers)}."
        )
    missing = () if scans is None else tuple(scan for scan in scans if scan not in merged)
    return MergedRecords(_flag_duplicates(merged[scan][1] for scan in order), missing, tuple(repeated))


def _require_same_run(shards: Mapping[str, Sequence[ResultRecord]]) -> None:
    """All records are of one model, one contract, one precision and the same downgraded checks."""
    first: dict[str, tuple[object, str, str]] = {}
    for name, records in shards.items():
        for record in records:
            for what, value in (
                ("model", record.model_sha256),
                ("contract", record.contract_sha256),
                ("precision", record.precision),
                ("downgraded checks", record.allowed),
            ):
                if value is None:  # a record of schema 1 does not say in which precision the session computed
                    continue
                expected, file, scan = first.setdefault(what, (value, name, record.scan))
                if value != expected:
                    raise UsageError(
                        f"{file} and {name} are not of one run: the {what} of {scan} is {expected}, that of "
                        f"{record.scan} {value}. Merge only what one model gave with the same settings."
                    )


def _result_of(record: ResultRecord) -> tuple[object, ...]:
    """What two records of one scan have to agree in; probabilities may differ by rounding on another processor."""
    label = record.prediction.label if record.prediction else None
    codes = sorted(flag.code for flag in record.flags if flag.code != "duplicate")  # which depends on the other scans
    return record.scan_sha256, label, record.failure and record.failure.code, tuple(codes)


def _walk_order(scan: str) -> tuple[tuple[bool, str], ...]:
    """Sorts as folders are searched: the files of a folder before its folders."""
    *folders, name = PurePath(scan).parts
    return (*((True, folder) for folder in folders), (False, name))


def _flag_duplicates(records: Iterable[ResultRecord]) -> tuple[ResultRecord, ...]:
    """Flag network inputs that came before, as one run flags them; a shard knows its own scans only."""
    seen: dict[str, str] = {}
    flagged = []
    for record in records:
        flags = [flag for flag in record.flags if flag.code != "duplicate"]
        if record.input_sha256 is not None:
            first = seen.setdefault(record.input_sha256, record.scan)
            if first != record.scan:
                overridden = apply_overrides([duplicate_flag(first)], record.allowed)
                flags += [flag for flag in overridden if flag.severity != "ok"]
        flagged.append(record.with_flags(tuple(flags)))
    return tuple(flagged)
