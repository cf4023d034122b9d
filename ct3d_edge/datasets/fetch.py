"""A published dataset becomes two folders of scans that a network can be trained on."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from ct3d_edge.datasets.download import (
    Noted,
    OnEvent,
    PartFile,
    RemoteDataset,
    RemoteFile,
    RetryPolicy,
    disk_errors,
    download,
    ignore_event,
    require_room,
    size_of,
)
from ct3d_edge.datasets.unpack import LIMITS, ArchiveContents, ArchiveLimits, unpacked
from ct3d_edge.errors import DatasetError, DownloadError, UsageError
from ct3d_edge.formatting import format_bytes, plural
from ct3d_edge.system.atomic_write import atomic_file

SOURCES = "sources.json"
SCHEMA = 1
"""Version of the JSON form; raised when the meaning of a field changes."""


@dataclass(frozen=True)
class SourceRecord:
    """One archive, as it was when it was first fetched and unpacked.

    Parameters
    ----------
    url
        Where it came from.
    bytes
        Size of the archive.
    sha256
        Of the archive, in hexadecimal.
    date
        Day of its first success (UTC), ``YYYY-MM-DD``.
    licence
        Under which it was published.
    scans, scan_bytes
        What was unpacked from it.
    """

    url: str
    bytes: int
    sha256: str
    date: str
    licence: str
    scans: int
    scan_bytes: int


def read_source_records(folder: Path) -> dict[str, SourceRecord]:
    """Return the records by class name; none where nothing was fetched yet.

    Raises
    ------
    UsageError
        If the file is not one that `write_source_records` wrote.
    """
    path = folder / SOURCES
    if not path.exists():
        return {}
    try:
        with disk_errors(path):
            text = path.read_bytes()
        found = json.loads(text)
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']!r}")
        return {name: _parsed(record) for name, record in found["archives"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path} is not a record that this version of ct3d-edge wrote ({str(error)!a}). Move it away, and the "
            "folders of scans beside it, then run the same command again."
        ) from error


def _parsed(found: Mapping[str, object]) -> SourceRecord:
    values = {field.name: found[field.name] for field in fields(SourceRecord)}
    for field in fields(SourceRecord):
        if type(values[field.name]) is not field.type:  # bool is no int here
            raise TypeError(f"{field.name} is {values[field.name]!r}")
    return SourceRecord(**values)  # type: ignore[arg-type]


def write_source_records(folder: Path, dataset: RemoteDataset, records: Mapping[str, SourceRecord]) -> None:
    """Write all records, complete or not at all.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    content = {
        "schema": SCHEMA,
        "dataset": dataset.name,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "archives": {name: asdict(record) for name, record in records.items()},
    }
    with atomic_file(folder / SOURCES) as stream:
        stream.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


PATIENCE = RetryPolicy()


@dataclass(frozen=True)
class Fetched:
    """What a folder holds after `fetch`.

    Parameters
    ----------
    new
        Names of the classes that were fetched; none if everything was there.
    records
        Of all classes.
    """

    new: tuple[str, ...]
    records: dict[str, SourceRecord]


def fetch(
    dataset: RemoteDataset,
    out: Path,
    *,
    keep_archives: bool = False,
    patience: RetryPolicy | None = None,
    limits: ArchiveLimits = LIMITS,
    on_event: OnEvent = ignore_event,
) -> Fetched:
    """Download, check and unpack what ``out`` does not hold yet: one folder of scans a class, and ``sources.json``.

    A class folder appears complete or not at all. What a broken connection or a stopped run leaves
    (``CT-0.zip.part``) is continued by the next call. An archive that already lies in ``out`` (``CT-0.zip``) is
    checked, used in place of a download, and left there.

    Parameters
    ----------
    keep_archives
        Leave the downloaded archives beside the folders.
    patience
        Attempts, pauses and timeouts; ``PATIENCE`` if None.
    limits
        For what the archives hold.
    on_event
        Called with each `Moved` and `Noted`.

    Raises
    ------
    DownloadError
        If an archive cannot be fetched, or its size or hash is not the published or recorded one.
    DatasetError
        If an archive is damaged or hostile, or a folder fetched earlier has changed since.
    UsageError
        If the disk has no room, ``out`` cannot be written to, or holds a class folder of other origin.
    """
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    records = read_source_records(out)
    missing = [source for source in dataset.sources if not _is_complete(source, out, records.get(source.name))]
    _require_room(missing, out, keep_archives)
    for source in missing:
        with _archive(source, out, keep_archives, patience or PATIENCE, on_event) as (archive, sha256):
            _require_hash(source, archive, sha256, records.get(source.name), out)
            with unpacked(archive, out / source.name, limits=limits, on_event=on_event) as contents:
                # The hash of an archive counts once its scans are out; a folder without a record is never seen.
                records.setdefault(source.name, _record(dataset, source, sha256, contents))
                write_source_records(out, dataset, records)
    return Fetched(tuple(source.name for source in missing), records)


def _is_complete(source: RemoteFile, out: Path, record: SourceRecord | None) -> bool:
    folder = out / source.name
    if not os.path.lexists(folder):
        return False
    if record is None or not folder.is_dir():
        raise UsageError(
            f"{folder} is there, but {out / SOURCES} does not say that it was fetched. "
            "Move it away or name another folder."
        )
    found = ArchiveContents.of(folder)
    if found != ArchiveContents(record.scans, record.scan_bytes):
        raise DatasetError(
            f"{folder} holds {plural(found.scans, 'scan')} of {found.bytes:,} bytes; {record.scans} of "
            f"{record.scan_bytes:,} bytes were fetched. Remove the folder and run the same command again."
        )
    if (kept := out / source.archive).exists():
        _require_hash(source, kept, _hash_given(kept, source), record, out)
    _part(source, out).remove()  # of a run that was killed between its last two steps
    return True


def _part(source: RemoteFile, out: Path) -> PartFile:
    return PartFile(out / f"{source.archive}.part", source.url)


def _require_room(missing: list[RemoteFile], out: Path, keep_archives: bool) -> None:
    """Before anything is asked for. The archives hold .nii.gz, so they unpack to about their own size."""
    absent = [source.bytes for source in missing if not (out / source.archive).exists()]
    present = sum(min(size_of(_part(source, out).path), source.bytes) for source in missing)
    archives = sum(absent) if keep_archives else max(absent, default=0)
    needed = max(archives - present, 0) + sum(source.bytes for source in missing)
    require_room(out, needed if missing else 0, f"Fetching {' and '.join(source.name for source in missing)}")


@contextmanager
def _archive(
    source: RemoteFile, out: Path, keep: bool, patience: RetryPolicy, on_event: OnEvent
) -> Iterator[tuple[Path, str]]:
    """Yield an archive of the published size and its SHA-256, and clear up behind its use."""
    given, part = out / source.archive, _part(source, out)
    if given.exists():
        on_event(Noted(f"{source.archive}: using {given}"))
        yield given, _hash_given(given, source)
        part.remove()
        return
    on_event(Noted(f"{source.archive}: {format_bytes(source.bytes)} from {source.url}"))
    sha256 = download(source, part, patience, on_event)
    try:
        yield part.path, sha256
    except (DatasetError, DownloadError) as error:
        part.remove()  # going on from it would end the same
        raise type(error)(f"{error} The download was removed; run the same command again to repeat it.") from error
    if keep:
        part.finish(given)
    part.remove()


def _hash_given(path: Path, source: RemoteFile) -> str:
    """SHA-256 of an archive that this run did not fetch."""
    if (size := size_of(path)) != source.bytes:
        raise DownloadError(
            f"{path} has {size:,} bytes; {source.archive} was published with {source.bytes:,}. "
            "Remove it and run the same command again to fetch it."
        )
    with disk_errors(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_hash(source: RemoteFile, archive: Path, found: str, record: SourceRecord | None, out: Path) -> None:
    expected = [("published", source.sha256), (f"recorded in {out / SOURCES}", record.sha256 if record else None)]
    for origin, sha256 in expected:
        if sha256 is not None and sha256 != found:
            raise DownloadError(
                f"{archive} has SHA-256 {found}, but {sha256} is {origin}: it is not the same file. Nothing was "
                f"unpacked. If {source.url} has changed for a good reason, use an empty folder."
            )


def _record(dataset: RemoteDataset, source: RemoteFile, sha256: str, contents: ArchiveContents) -> SourceRecord:
    return SourceRecord(
        url=source.url,
        bytes=source.bytes,
        sha256=sha256,
        date=datetime.now(UTC).date().isoformat(),
        licence=dataset.licence,
        scans=contents.scans,
        scan_bytes=contents.bytes,
    )
