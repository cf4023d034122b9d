"""Both archives become two class folders; whatever fails, no folder is ever half-made."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hostile_server import Behaviour, Content, HostileServer, dropping, status
from published import Archives, class_archive, entry, noise, publish, serve, tree, two_classes, zip_of

from ct3d_edge.datasets.fetch import MOSMED, fetch
from ct3d_edge.errors import DatasetError, DownloadError, UsageError
from ct3d_edge.scan.discovery import find_scans

SCANS = [f"{name}/study_{number:04}.nii.gz" for name in ("CT-0", "CT-23") for number in range(3)]
COMPLETE = sorted(["CT-0", "CT-23", *SCANS, "sources.json"])
FULL = """{"schema": 1, "dataset": "MosMedData", "licence": "x", "citation": "x", "archives": {"CT-0": {"url": "x",
"bytes": 9, "sha256": "x", "date": "2020-07-01", "scans": 3, "scan_bytes": 9}}}"""
LINK = zip_of([(entry("a.nii", mode=0o120777), b"/etc/passwd")])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    with serve(monkeypatch) as running:
        yield running


@pytest.fixture
def dataset(server: HostileServer) -> Archives:
    return two_classes(server)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "new" / "mosmed"


def archives(out: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((out / "sources.json").read_text())["archives"]
    return found


def test_the_published_archives_are_the_tutorials() -> None:
    release = "https://github.com/hasibzunair/3D-image-classification-tutorial/releases/download/v0.2"
    assert [(source.name, source.url, source.bytes) for source in MOSMED] == [
        ("CT-0", f"{release}/CT-0.zip", 1_065_471_431),
        ("CT-23", f"{release}/CT-23.zip", 1_045_162_547),
    ]


def test_an_empty_folder_gets_two_classes_and_their_provenance(
    server: HostileServer, dataset: Archives, out: Path
) -> None:
    assert {name: record.scans for name, record in fetch(out, dataset).items()} == {"CT-0": 3, "CT-23": 3}
    assert tree(out) == COMPLETE
    assert all((out / scan).read_bytes() == noise(3_000, seed=number % 3) for number, scan in enumerate(SCANS))
    record = archives(out)["CT-0"]
    assert date.fromisoformat(str(record.pop("date"))) <= datetime.now(UTC).date()
    assert record == {
        "url": f"{server.address}/CT-0.zip",
        "bytes": len(class_archive("CT-0")),
        "sha256": hashlib.sha256(class_archive("CT-0")).hexdigest(),
        "scans": 3,
        "scan_bytes": 9_000,
    }


@pytest.mark.parametrize("keep", [True, False])
def test_the_result_is_what_training_reads(dataset: Archives, out: Path, keep: bool) -> None:
    """`ct3d-edge train` takes a folder with two visible folders; importing it here would need Keras."""
    fetch(out, dataset, keep_archives=keep)
    assert [path.name for path in sorted(out.iterdir()) if path.is_dir()] == ["CT-0", "CT-23"]
    assert [path.relative_to(out).as_posix() for path in find_scans([out])] == SCANS


def test_progress_covers_every_byte(dataset: Archives, out: Path) -> None:
    last: dict[str, tuple[int, int]] = {}
    fetch(out, dataset, on_progress=lambda step, done, total: last.update({step: (done, total)}))
    assert list(last) == ["Downloading CT-0", "Unpacking CT-0", "Downloading CT-23", "Unpacking CT-23"]
    assert all(done == total > 0 for done, total in last.values())


def test_a_complete_folder_is_left_alone(server: HostileServer, dataset: Archives, out: Path) -> None:
    fetch(out, dataset)
    server.log.clear()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert list(fetch(out, dataset)) == ["CT-0", "CT-23"]
    assert server.log == []
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_only_what_is_missing_is_fetched(server: HostileServer, dataset: Archives, out: Path) -> None:
    server.script["/CT-23.zip"].append(status(404))
    with pytest.raises(DownloadError):
        fetch(out, dataset)
    assert tree(out) == ["CT-0", *SCANS[:3], "CT-23.zip.part", "sources.json"]
    fetch(out, dataset)
    assert tree(out) == COMPLETE
    assert [seen.path for seen in server.log] == ["/CT-0.zip", "/CT-23.zip", "/CT-23.zip"]


def test_kept_archives_are_checked_and_used_again(server: HostileServer, dataset: Archives, out: Path) -> None:
    fetch(out, dataset, keep_archives=True)
    assert tree(out) == sorted([*COMPLETE, "CT-0.zip", "CT-23.zip"])
    for scan in (out / "CT-0").iterdir():
        scan.unlink()
    (out / "CT-0").rmdir()
    server.log.clear()
    fetch(out, dataset)
    assert server.log == []
    assert tree(out) == sorted([*COMPLETE, "CT-0.zip", "CT-23.zip"])


def test_an_archive_that_was_put_there_needs_no_server(dataset: Archives, out: Path) -> None:
    out.mkdir(parents=True)
    for source in dataset:
        (out / f"{source.name}.zip").write_bytes(class_archive(source.name))
    offline = tuple(replace(s, url="https://127.0.0.1:1/x") for s in dataset)
    fetch(out, offline)
    assert tree(out) == sorted([*COMPLETE, "CT-0.zip", "CT-23.zip"])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"short", DownloadError, r"CT-0\.zip has 5 bytes and SHA-256"),
        (noise(len(class_archive("CT-0"))), DatasetError, "no sound archive of scans"),
    ],
)
def test_an_archive_that_was_put_there_is_refused_but_not_removed(
    dataset: Archives, out: Path, data: bytes, error: type[Exception], message: str
) -> None:
    out.mkdir(parents=True)
    (out / "CT-0.zip").write_bytes(data)
    with pytest.raises(error, match=message):
        fetch(out, dataset)
    assert tree(out) == ["CT-0.zip"]


def test_a_hash_that_is_published_is_compared(server: HostileServer, dataset: Archives, out: Path) -> None:
    first, second = dataset
    good = hashlib.sha256(class_archive("CT-0")).hexdigest()
    wrong = (replace(first, sha256=good), replace(second, sha256="0" * 64))
    with pytest.raises(DownloadError, match=r"bytes and SHA-256 \w{64}; .* bytes and 0{64} were published"):
        fetch(out, wrong)
    assert not (out / "CT-23").exists()
    assert list(archives(out)) == ["CT-0"]


def remove_scans(folder: Path) -> None:
    for scan in folder.iterdir():
        scan.unlink()
    folder.rmdir()


def test_a_file_that_is_not_the_recorded_one_is_refused(server: HostileServer, dataset: Archives, out: Path) -> None:
    fetch(out, dataset)
    # As if it had been fetched long ago.
    recorded = re.sub(rb"\d{4}-\d\d-\d\d", b"2020-07-01", (out / "sources.json").read_bytes())
    (out / "sources.json").write_bytes(recorded)
    remove_scans(out / "CT-0")
    changed = class_archive("CT-1")  # sound, and of the same length
    assert len(changed) == dataset[0].bytes
    server.files["/CT-0.zip"] = Content(changed, etag='"two"')
    with pytest.raises(DownloadError, match=r"Nothing was unpacked\. Remove it and run the same command again"):
        fetch(out, dataset)
    assert not (out / "CT-0").exists()
    assert (out / "sources.json").read_bytes() == recorded
    (out / "CT-0.zip.part").unlink()
    server.files["/CT-0.zip"] = Content(class_archive("CT-0"))
    fetch(out, dataset)
    assert tree(out) == COMPLETE
    assert (out / "sources.json").read_bytes() == recorded


def test_a_folder_that_lost_a_scan_is_noticed(dataset: Archives, out: Path) -> None:
    fetch(out, dataset)
    (out / SCANS[4]).unlink()
    with pytest.raises(DatasetError, match=r"CT-23 is not what was fetched: 3 scans of 9,000 bytes"):
        fetch(out, dataset)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_a_folder_of_other_origin_is_not_touched(
    server: HostileServer, dataset: Archives, out: Path, make: object
) -> None:
    out.mkdir(parents=True)
    make(out / "CT-23")  # type: ignore[operator]
    with pytest.raises(DatasetError, match=r"CT-23 is not what was fetched: nothing, as sources\.json has it"):
        fetch(out, dataset)
    assert tree(out) == ["CT-23"]
    assert server.log == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2}',
        "\x00",
        FULL.replace("1,", "2,", 1),
        FULL.replace("3,", "true,"),
        FULL.replace("url", "x"),
    ],
)
def test_a_record_that_cannot_be_read_is_not_overwritten(
    server: HostileServer, dataset: Archives, out: Path, text: str
) -> None:
    out.mkdir(parents=True)
    (out / "sources.json").write_text(text)
    with pytest.raises(UsageError, match=r"sources\.json \(to start over, move it away"):
        fetch(out, dataset)
    assert (out / "sources.json").read_text() == text
    assert server.log == []


@pytest.mark.parametrize(
    ("archive", "behaviours", "error"),
    [
        (class_archive("CT-0"), [status(404)], DownloadError),
        (class_archive("CT-0"), [status(500)] * 3, DownloadError),
        (class_archive("CT-0"), [dropping(100)] * 3, DownloadError),
        (LINK, [], DatasetError),
        (zip_of([("../a.nii", b"x")]), [], DatasetError),
        (class_archive("CT-0")[:-9], [], DatasetError),
        (class_archive("CT-0").replace(noise(3_000, 2), noise(3_000, 9)), [], DatasetError),
    ],
    ids=["404", "500", "broken", "link", "outside", "truncated", "checksum"],
)
def test_no_failure_leaves_anything_under_a_final_name(
    server: HostileServer, out: Path, archive: bytes, behaviours: list[Behaviour], error: type[Exception]
) -> None:
    dataset = publish(server, {"CT-0": archive})
    server.script["/CT-0.zip"] += behaviours
    with pytest.raises(error):
        fetch(out, dataset)
    assert set(tree(out)) <= {"CT-0.zip.part", "CT-0.zip.part.etag"}


@pytest.mark.parametrize("step", ["Downloading CT-0", "Downloading CT-23", "Unpacking CT-0", "Unpacking CT-23"])
def test_a_stopped_run_goes_on(server: HostileServer, dataset: Archives, out: Path, step: str) -> None:
    def stop(reached: str, done: int, total: int) -> None:
        if reached == step and (done == total or step.startswith("Unpacking")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(out, dataset, on_progress=stop)
    name = step.split()[1]
    assert not (out / name).exists()
    assert not (out / f".{name}.part").exists()
    assert (out / f"{name}.zip.part").stat().st_size == len(class_archive(name))
    fetch(out, dataset)
    assert tree(out) == COMPLETE
    assert [seen.path for seen in server.log] == ["/CT-0.zip", "/CT-23.zip"], "nothing was fetched twice"


def test_a_run_killed_between_its_last_steps_is_cleared_up(dataset: Archives, out: Path) -> None:
    fetch(out, dataset)
    (out / "CT-0.zip.part").touch()
    (out / "CT-0.zip.part.etag").touch()
    (out / ".CT-23.part").mkdir()
    remove_scans(out / "CT-23")
    fetch(out, dataset)
    assert tree(out) == COMPLETE


def test_a_full_disk_is_reported_before_the_first_request(server: HostileServer, dataset: Archives, out: Path) -> None:
    vast = tuple(replace(source, bytes=10**18) for source in dataset)
    for keep, needed in ((False, "3,000,000"), (True, "4,000,000")):  # the first archive is gone before the second
        with pytest.raises(UsageError, match=rf"Fetching CT-0 and CT-23 takes {needed} TB in .* [kMGT]?B are free"):
            fetch(out, vast, keep_archives=keep)
    assert server.log == []


def test_a_file_with_the_name_of_the_folder_is_reported(dataset: Archives, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"Cannot make the folder .*file: File exists"):
        fetch(tmp_path / "file", dataset)


def test_an_archive_that_cannot_be_read_is_reported(dataset: Archives, out: Path) -> None:
    (out / "CT-0.zip").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"Cannot write .*: Is a directory"):
        fetch(out, dataset)
