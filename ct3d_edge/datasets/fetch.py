"""MosMedData as the published tutorial uses it: downloaded, checked, and unpacked into one folder of scans a class."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct, to_builtins

from ct3d_edge.datasets.download import LOGGER, OnProgress, RemoteArchive, download, etag_file
from ct3d_edge.datasets.unpack import SUFFIXES, require_disk_space, unpack_scans
from ct3d_edge.errors import DatasetError, DownloadError, UsageError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.json_validation import convert, parse_object
from ct3d_edge.system.atomic_write import atomic_file, make_folder, write_failure_message

SOURCES = "sources.json"
RELEASE = "https://github.com/hasibzunair/3D-image-classification-tutorial/releases/download/v0.2"


MOSMED = (
    RemoteArchive("CT-0", f"{RELEASE}/CT-0.zip", 1_065_471_431),
    RemoteArchive("CT-23", f"{RELEASE}/CT-23.zip", 1_045_162_547),
)
"""100 scans without findings and 100 with viral pneumonia, of MosMedData; the publisher names no hashes."""

LICENCE = "CC BY-NC-ND 3.0"
CITATION = 'Morozov et al., "MosMedData: Chest CT Scans with COVID-19 Related Findings Dataset", 2020, arXiv:2005.06465'


class SourceRecord(Struct, frozen=True):
    """One archive when it was first fetched and unpacked: its hash, the day (UTC), and what came out of it."""

    url: str
    bytes: int
    sha256: str
    date: str
    scans: int
    scan_bytes: int


class Sources(Struct):
    """The content of ``sources.json``, which is written beside the scans."""

    schema: Literal[1]
    dataset: str
    licence: str
    citation: str
    archives: dict[str, SourceRecord]


Records = dict[str, SourceRecord]


def fetch(
    out: Path,
    archives: tuple[RemoteArchive, ...],
    *,
    keep_archives: bool = False,
    on_progress: OnProgress = lambda *_: None,
) -> Records:
    """Download, check and unpack what ``out`` does not hold yet: one folder of scans a class, and ``sources.json``.

    A class folder appears complete or not at all. What a stopped run leaves (``CT-0.zip.part``) is continued by the
    next call. An archive that already lies in ``out`` (``CT-0.zip``) is used in place of a download, and left there.

    Returns
    -------
        The records of ``sources.json`` by class name.

    Raises
    ------
    DownloadError
        If an archive cannot be fetched, or its size or hash is not the published or recorded one.
    DatasetError
        If an archive is damaged or hostile, or a class folder is not the one that was fetched.
    UsageError, OutputError, DiskError
        If there is not enough disk space, or ``out`` or its ``sources.json`` cannot be used.
    """
    make_folder(out)
    records = _read_records(out / SOURCES)
    missing = [each for each in archives if not _is_complete(out / each.name, records.get(each.name))]
    names = " and ".join(each.name for each in missing)
    require_disk_space(out, _peak_disk_use(out, missing, keep_archives), f"Fetching {names}")
    try:
        for each in archives:
            if each in missing:
                _fetch_class(each, out, records, keep_archives, on_progress)
            part = out / f"{each.name}.zip.part"
            for path in (part, etag_file(part)):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise write_failure_message(out, error) from error
    return records


def _peak_disk_use(out: Path, missing: list[RemoteArchive], keep: bool) -> int:
    """Bytes that must be free: archives are fetched in turn, and each is removed before the next unless it stays."""
    peak = used = 0
    for archive in missing:
        present = sum(path.stat().st_size for path in out.glob(f"{archive.name}.zip*"))
        stays = keep or (out / f"{archive.name}.zip").exists()
        rest = max(archive.bytes - present, 0)
        peak = max(peak, used + rest + archive.bytes)  # .nii.gz files unpack to about the archive's size
        used += archive.bytes + (rest if stays else -min(present, archive.bytes))
    return peak


def _fetch_class(archive: RemoteArchive, out: Path, records: Records, keep: bool, on_progress: OnProgress) -> None:
    """Fetch one class; its folder gets its name when all is written and recorded."""
    given, part = out / f"{archive.name}.zip", out / f"{archive.name}.zip.part"
    source = given if given.exists() else part
    if source == part:
        LOGGER.info("%s: %s from %s", archive.name, format_bytes(archive.bytes), archive.url)
        download(archive, part, on_progress)
    sha256 = _require_published(archive, source, records.get(archive.name))
    with _new_folder(out / archive.name) as folder:
        unpack_scans(source, folder, on_progress)
        today = datetime.now(UTC).date().isoformat()
        record = SourceRecord(archive.url, archive.bytes, sha256, today, *_count(folder))
        records.setdefault(archive.name, record)
        _write_records(out / SOURCES, records)
    if keep and source == part:
        part.rename(given)


def _read_records(path: Path) -> Records:
    if not path.exists():
        return {}
    what = f"{path} (to start over, move it away with the folders beside it)"
    return convert(parse_object(path.read_bytes(), what, UsageError), Sources, what, UsageError).archives


def _write_records(path: Path, records: Records) -> None:
    sources = to_builtins(Sources(1, "MosMedData", LICENCE, CITATION, records))
    with atomic_file(path) as stream:
        stream.write(f"{json.dumps(sources, indent=1, ensure_ascii=False)}\n".encode())


def _is_complete(folder: Path, record: SourceRecord | None) -> bool:
    if not os.path.lexists(folder):
        return False
    if record is None or not folder.is_dir() or _count(folder) != (record.scans, record.scan_bytes):
        fetched = f"{record.scans} scans of {record.scan_bytes:,} bytes" if record else "nothing"
        raise DatasetError(
            f"{folder} is not what was fetched: {fetched}, as {SOURCES} has it. "
            "Move it away or name another folder, then run the same command again."
        )
    return True


def _count(folder: Path) -> tuple[int, int]:
    """Number and bytes of the scans in a folder; hidden and other files, as systems add them, do not count."""
    scans = [path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES) and path.name[0] != "."]
    sizes = [path.stat().st_size for path in scans]
    return len(sizes), sum(sizes)


def _require_published(archive: RemoteArchive, source: Path, record: SourceRecord | None) -> str:
    """Return the SHA-256 of a file that has the published size and the published or recorded hash."""
    with source.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    expected = archive.sha256 or (record.sha256 if record else found)
    if (size := source.stat().st_size) != archive.bytes or found != expected:
        raise DownloadError(
            f"{source} has {size:,} bytes and SHA-256 {found}; {archive.bytes:,} bytes and {expected} were published. "
            "Nothing was unpacked. Remove it and run the same command again to fetch it."
        )
    return found


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden neighbour of ``folder``, which gets its name if the block ends well, and is removed otherwise."""
    hidden = folder.with_name(f".{folder.name}.part")
    if os.path.lexists(hidden):  # of a run that was killed
        shutil.rmtree(hidden)
    try:
        yield hidden
        hidden.rename(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
