"""Scans in object storage: a real S3 server, started here."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import DOWNGRADE_ALL, MakeModel, MakeScan
from dicom_files import write_series

from ct3d_edge.cluster.remote_scans import find_remote_scans, local_copy, parse_url
from ct3d_edge.errors import NoScansError, UnreadableScanError, UsageError

pytest.importorskip("s3fs", reason="needs the extra s3")
pytest.importorskip("moto", reason="needs moto, an S3 server for tests")


@pytest.mark.parametrize(
    ("argument", "url"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        (Path("s3://bucket/a"), "s3://bucket/a"),
        (Path("gs://b"), "gs://b"),
        ("scans/s3:/x", None),
        ("/archive", None),
        ("C:/scans", None),
        ("a:b", None),
    ],
)
def test_a_url_is_known_by_its_form(argument: str | Path, url: str | None) -> None:
    assert parse_url(argument) == url


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket."""
    import fsspec
    import s3fs

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
    ):
        monkeypatch.setenv(name, value)
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "the server starts"
            time.sleep(0.05)
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = fsspec.filesystem("s3")
    filesystem.mkdir("archive")
    yield "s3://archive"
    server.kill()
    server.wait()
    s3fs.S3FileSystem.clear_instance_cache()


def upload(folder: Path, url: str) -> None:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            filesystem.put_file(str(file), f"{path}/{file.relative_to(folder).as_posix()}")


@pytest.fixture
def folder(tmp_path: Path, make_scan: MakeScan) -> Path:
    """Two NIfTI scans, a mask, a hidden object, a text, a broken scan and a DICOM series."""
    rng, folder = np.random.default_rng(0), tmp_path / "scans"
    for name in ("b/two.nii.gz", "one.nii", "b/two_mask.nii.gz", ".hidden.nii.gz"):
        voxels = rng.integers(-900, 300, (24, 20, 12)).astype(np.int16)
        make_scan(Path(name).name, voxels=voxels, folder=folder / Path(name).parent)
    (folder / "notes.txt").write_text("x")
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    write_series(folder / "study", rng.integers(-900, 300, (24, 20, 12)).astype(np.int16))
    return folder


def test_scans_are_found_by_name(bucket: str, folder: Path) -> None:
    upload(folder, bucket)
    names = ("b/two.nii.gz", "broken.nii.gz", "one.nii", "study")
    assert find_remote_scans(bucket) == [f"{bucket}/{name}" for name in names]
    assert find_remote_scans(f"{bucket}/one.nii") == [f"{bucket}/one.nii"]
    with pytest.raises(NoScansError, match=f"No scans under {bucket}/nothing"):
        find_remote_scans(f"{bucket}/nothing")
    with pytest.raises(UsageError, match=r"Cannot list s3://other: \w+"):
        find_remote_scans("s3://other")


def test_a_copy_is_what_was_stored_and_is_removed(bucket: str, folder: Path) -> None:
    upload(folder, bucket)
    with local_copy(f"{bucket}/one.nii") as copy:
        assert copy.name == "one.nii"
        assert copy.read_bytes() == (folder / "one.nii").read_bytes()
    assert not copy.exists()
    with local_copy(f"{bucket}/study") as copy:
        assert sorted(path.name for path in copy.iterdir()) == sorted(p.name for p in (folder / "study").iterdir())
    with (
        pytest.raises(UnreadableScanError, match=f"{bucket}/gone.nii cannot be read"),
        local_copy(f"{bucket}/gone.nii"),
    ):
        pass


def test_storage_without_its_package_is_named() -> None:
    with pytest.raises(UsageError, match=r"abc://x/y needs fsspec and its package for this storage"):
        find_remote_scans("abc://x/y")


def run_infer(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ct3d_edge", "infer", *map(str, words), "-p", "cpu", *DOWNGRADE_ALL]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=os.getcwd())  # noqa: PTH109


@pytest.mark.slow
def test_ray_predicts_them_as_files(bucket: str, folder: Path, make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    upload(folder, bucket)
    far, near = tmp_path / "far.jsonl", tmp_path / "near.jsonl"
    outcome = run_infer(bucket, "-m", make_model(), "--engine", "ray", "--out", far)
    assert outcome.returncode == 1, outcome.stderr
    assert run_infer(folder, "-m", make_model(), "--out", near).returncode == 1
    found, expected = ([json.loads(line) for line in path.read_text().splitlines()] for path in (far, near))
    assert [record["scan"] for record in found] == find_remote_scans(bucket)
    by_content = {record["scan_sha256"]: record for record in expected}
    for record in found:
        other = by_content[record["scan_sha256"]]
        assert record["probability"] == pytest.approx(other["probability"], abs=1e-6)
        assert (record["status"], record["flags"]) == (other["status"], other["flags"])
        assert (record["error"] or {}).get("code") == (other["error"] or {}).get("code")
    again = run_infer(bucket, "-m", make_model(), "--engine", "ray", "--out", far, "--resume")
    assert again.returncode == 1, again.stderr
    kept = [json.loads(line) for line in far.read_text().splitlines()]
    assert [r["timing_ms"] for r in kept if r["probability"]] == [r["timing_ms"] for r in found if r["probability"]]


def test_a_url_without_ray_is_one_sentence(make_model: MakeModel) -> None:
    outcome = run_infer("s3://archive/x", "-m", make_model())
    assert outcome.returncode == 2
    assert "s3://archive/x is a URL: only `infer --engine ray` reads those" in outcome.stderr
