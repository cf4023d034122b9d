"""Tiny zip archives, sound and hostile, and a dataset of two of them on a local server."""

import io
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hostile_server import AUTHORITY, Content, HostileServer

from ct3d_edge.datasets import download
from ct3d_edge.datasets.download import RemoteArchive

Archives = tuple[RemoteArchive, ...]
Entries = Iterable[tuple[zipfile.ZipInfo | str, bytes]]


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    """A server that is trusted here; a request is tried three times, without pauses."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name, value in {"ATTEMPTS": 3, "TIMEOUT_S": 5.0, "PAUSE_S": 0.0}.items():
        monkeypatch.setattr(download, name, value)
    with AUTHORITY.cert_pem.tempfile() as certificate, HostileServer() as server:
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        yield server


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no compression makes smaller."""
    return np.random.default_rng(seed).bytes(size)


def zip_of(entries: Entries) -> bytes:
    """A zip archive in memory; two entries may have one name."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicates
        for entry, data in entries:
            # A bare name would be stamped with the time of day, and the archive differ from one call to the next.
            info = zipfile.ZipInfo(entry) if isinstance(entry, str) else entry
            archive.writestr(info, data, compress_type=zipfile.ZIP_DEFLATED)
    return target.getvalue()


def entry(name: str, *, mode: int = 0, attributes: int = 0) -> zipfile.ZipInfo:
    """An entry with a Unix file mode, as ``ls`` shows it, or with attributes of Windows."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16 | attributes
    return info


def class_archive(name: str, scans: int = 3, size: int = 3_000) -> bytes:
    """The shape of the published archives: a folder with scans, and what Finder adds."""
    files = [(f"{name}/study_{number:04}.nii.gz", noise(size, seed=number)) for number in range(scans)]
    folder = zipfile.ZipInfo(f"{name}/")
    folder.external_attr = 0o40755 << 16
    extra = [(f"{name}/.DS_Store", b"finder"), (f"__MACOSX/{name}/._study_0000.nii.gz", b"fork")]
    return zip_of([(folder, b""), *files, *extra])


def publish(server: HostileServer, archives: Mapping[str, bytes]) -> Archives:
    """Publish archives on the server."""
    for name, data in archives.items():
        server.files[f"/{name}.zip"] = Content(data)
    return tuple(RemoteArchive(name, f"{server.address}/{name}.zip", len(data)) for name, data in archives.items())


def two_classes(server: HostileServer) -> Archives:
    """Publish a small CT-0 and a small CT-23."""
    return publish(server, {name: class_archive(name) for name in ("CT-0", "CT-23")})


def tree(folder: Path) -> list[str]:
    """Relative paths of all files and folders, hidden ones included."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
