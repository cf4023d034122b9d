"""One file from a server that does what servers do."""

import resource
import ssl
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hostile_server import (
    Behaviour,
    Content,
    HostileServer,
    answering,
    declaring,
    dropping,
    hanging,
    ignoring_conditions,
    ignoring_ranges,
    redirect,
    rubbish,
    status,
    undeclared,
)
from published import noise, serve

from ct3d_edge.datasets import download as module
from ct3d_edge.datasets.download import ATTEMPTS, BLOCK_BYTES, PAUSE_S, TIMEOUT_S, RemoteArchive, etag_file
from ct3d_edge.errors import DiskError, DownloadError, UsageError

BODY = noise(2 * BLOCK_BYTES + 77)
OTHER = noise(len(BODY), seed=1)
PATH = "/CT-0.zip"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    with serve(monkeypatch) as running:
        running.files[PATH] = Content(BODY)
        yield running


@pytest.fixture
def archive(server: HostileServer) -> RemoteArchive:
    return RemoteArchive("CT-0", server.address + PATH, len(BODY))


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "CT-0.zip.part"


def download(archive: RemoteArchive, part: Path) -> list[tuple[int, int]]:
    """Progress as (done, total)."""
    progress: list[tuple[int, int]] = []
    module.download(archive, part, lambda _, done, total: progress.append((done, total)))
    return progress


def break_off(server: HostileServer, archive: RemoteArchive, part: Path, count: int = 1000) -> None:
    """Leave ``count`` bytes of a download."""
    server.script[PATH] += [dropping(count), status(404)]
    with pytest.raises(DownloadError):
        download(archive, part)
    server.log.clear()
    assert part.read_bytes() == server.files[PATH].body[:count]


def test_a_file_arrives_whole_and_progress_grows(server: HostileServer, archive: RemoteArchive, part: Path) -> None:
    progress = download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges(PATH) == [None]
    assert server.log[0].headers["User-Agent"].startswith("ct3d-edge/")
    assert all(before < after for before, after in pairwise(progress))
    assert progress[-1] == (len(BODY), len(BODY))


def test_a_connection_that_breaks_is_resumed_where_it_broke(
    server: HostileServer, archive: RemoteArchive, part: Path
) -> None:
    server.script[PATH] += [dropping(1000), dropping(500)]
    download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges(PATH) == [None, "bytes=1000-", "bytes=1500-"]
    assert [seen.headers.get("If-Range") for seen in server.log] == [None, '"one"', '"one"']


def test_a_later_run_goes_on_from_what_an_earlier_one_left(
    server: HostileServer, archive: RemoteArchive, part: Path
) -> None:
    break_off(server, archive, part, BLOCK_BYTES + 5)
    download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges(PATH) == [f"bytes={BLOCK_BYTES + 5}-"]


def test_a_complete_part_is_not_asked_for(server: HostileServer, archive: RemoteArchive, part: Path) -> None:
    download(archive, part)
    assert download(archive, part) == []
    assert len(server.log) == 1


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_where_a_change_could_not_be_noticed_everything_is_fetched_again(
    server: HostileServer, archive: RemoteArchive, part: Path, etag: str | None
) -> None:
    server.files[PATH] = Content(BODY, etag=etag)
    break_off(server, archive, part)
    download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges(PATH) == [None]


def test_bytes_of_unknown_origin_are_not_continued(server: HostileServer, archive: RemoteArchive, part: Path) -> None:
    part.write_bytes(OTHER[:1000])
    download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges(PATH) == [None]


def test_a_file_that_changed_in_between_is_not_spliced(
    server: HostileServer, archive: RemoteArchive, part: Path
) -> None:
    break_off(server, archive, part)
    server.files[PATH] = Content(OTHER, etag='"two"')
    download(archive, part)
    assert part.read_bytes() == OTHER
    assert server.ranges(PATH) == ["bytes=1000-"]
    assert etag_file(part).read_text() == '"two"'


def test_nor_by_a_server_that_sends_a_part_of_the_new_file(
    server: HostileServer, archive: RemoteArchive, part: Path
) -> None:
    break_off(server, archive, part)
    server.files[PATH] = Content(OTHER, etag='"two"')
    server.script[PATH].append(ignoring_conditions)
    download(archive, part)
    assert part.read_bytes() == OTHER
    assert server.ranges(PATH) == ["bytes=1000-", None]


@pytest.mark.parametrize("span", ["bytes 0-9/10", "bytes 1001-2000/2001", "10-20", "bytes 1000-x/*", ""])
def test_a_part_that_was_not_asked_for_starts_over(
    server: HostileServer, archive: RemoteArchive, part: Path, span: str
) -> None:
    break_off(server, archive, part)
    server.script[PATH].append(answering(206, b"x" * 10, Content_Range=span, ETag='"one"'))
    download(archive, part)
    assert part.read_bytes() == BODY


def test_a_server_that_ignores_ranges_restarts_cleanly(
    server: HostileServer, archive: RemoteArchive, part: Path
) -> None:
    break_off(server, archive, part)
    server.script[PATH].append(ignoring_ranges)
    download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges(PATH) == ["bytes=1000-"]


def test_a_server_without_the_bytes_that_are_asked_for_is_asked_for_all(
    server: HostileServer, archive: RemoteArchive, part: Path
) -> None:
    break_off(server, archive, part)
    server.script[PATH].append(status(416))
    download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges(PATH) == ["bytes=1000-", None]


@pytest.mark.parametrize("behaviour", [undeclared(BODY + b"more"), declaring(len(BODY))])
def test_more_than_published_is_never_taken(
    server: HostileServer, archive: RemoteArchive, part: Path, behaviour: Behaviour
) -> None:
    server.files[PATH] = Content(BODY + b"more")
    server.script[PATH].append(behaviour)
    download(archive, part)
    assert part.read_bytes() == BODY


@pytest.mark.parametrize("length", [len(BODY) - 1, len(BODY) + 1, 10**30])
def test_another_size_than_the_published_one_is_refused_before_anything_is_lost(
    server: HostileServer, archive: RemoteArchive, part: Path, length: int
) -> None:
    break_off(server, archive, part)
    server.script[PATH].append(declaring(length))
    with pytest.raises(DownloadError, match=f"answered 200 with {length} bytes; {len(BODY)} are published"):
        download(archive, part)
    assert part.read_bytes() == BODY[:1000]


@pytest.mark.parametrize(
    ("code", "asked", "words"),
    [
        (404, 1, "404 Not Found"),
        (403, 1, "403 Forbidden"),
        (204, 1, "204 with"),
        (500, 3, "500 Internal Server Error"),
        (503, 3, "503 Service Unavailable"),
        (429, 3, "429 Too Many Requests"),
        (416, 1, "416"),
        (599, 1, "599"),
    ],
)
def test_a_status_is_named_and_asked_again_only_if_it_may_pass(
    server: HostileServer, archive: RemoteArchive, part: Path, code: int, asked: int, words: str
) -> None:
    server.script[PATH] += [status(code)] * asked
    with pytest.raises(DownloadError) as caught:
        download(archive, part)
    assert f"Asked for {archive.url}: the server answered {words}" in str(caught.value)
    assert f"at attempt {asked} of 3. Run the same command again" in str(caught.value)
    assert len(server.log) == asked
    assert part.read_bytes() == b""


def test_a_failure_that_passes_is_no_failure(server: HostileServer, archive: RemoteArchive, part: Path) -> None:
    server.script[PATH] += [status(503), rubbish]
    download(archive, part)
    assert part.read_bytes() == BODY


def test_silence_is_given_up_and_what_came_before_stays(
    server: HostileServer, archive: RemoteArchive, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    server.script[PATH].append(hanging(1000))
    download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges(PATH) == [None, "bytes=1000-"]


def test_pauses_double(
    server: HostileServer, archive: RemoteArchive, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr(module, "PAUSE_S", 2.0)
    server.script[PATH] += [status(500)] * 2
    download(archive, part)
    assert pauses == [2.0, 4.0]
    assert (ATTEMPTS, TIMEOUT_S, PAUSE_S) == (6, 30.0, 1.0)


def test_nobody_there_is_one_clear_sentence(server: HostileServer, archive: RemoteArchive, part: Path) -> None:
    gone = replace(archive, url="https://127.0.0.1:1/CT-0.zip")
    with pytest.raises(DownloadError, match=r"CT-0\.zip: Connection refused, at attempt 3 of 3\. .*CT-0\.zip by other"):
        download(gone, part)


def test_redirections_are_followed_and_ranges_with_them(
    server: HostileServer, archive: RemoteArchive, part: Path
) -> None:
    server.files["/store"] = server.files[PATH]
    server.script[PATH] += [redirect("/store")] * 2
    server.script["/store"].append(dropping(1000))
    download(archive, part)
    assert part.read_bytes() == BODY
    assert server.ranges("/store") == [None, "bytes=1000-"]


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:1/x", "file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "http://[::1", PATH]
)
def test_redirections_elsewhere_than_to_https_or_in_circles_are_refused(
    server: HostileServer, archive: RemoteArchive, part: Path, to: str
) -> None:
    server.script[PATH] += [redirect(to)] * 12
    with pytest.raises(DownloadError, match=r"answered 302 Found|unknown url type|Invalid IPv6 URL"):
        download(archive, part)
    assert part.read_bytes() == b""


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "file:///etc/hostname", "ftp://127.0.0.1/x", "CT-0.zip"])
def test_only_https_addresses_are_asked(archive: RemoteArchive, part: Path, url: str) -> None:
    with pytest.raises(DownloadError, match=r"unknown url type.* at attempt 1 of 3"):
        download(replace(archive, url=url), part)


def test_a_certificate_that_nobody_vouches_for_is_refused(
    server: HostileServer, archive: RemoteArchive, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(DownloadError, match=r"CERTIFICATE_VERIFY_FAILED.* at attempt 1 of 3"):
        download(archive, part)
    assert server.log == []


def test_a_file_that_cannot_be_written_is_an_error_of_the_disk(
    server: HostileServer, archive: RemoteArchive, part: Path
) -> None:
    part.mkdir()
    with pytest.raises(UsageError, match=r"Cannot write .*CT-0\.zip\.part: Is a directory"):
        download(archive, part)
    assert server.log == []


def test_a_full_disk_is_no_error_of_the_network(server: HostileServer, archive: RemoteArchive, part: Path) -> None:
    """The limit on the size of a file stands for the disk: both fail the write, and not the request."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BLOCK_BYTES, before[1]))
    try:
        with pytest.raises(DiskError, match=r"Cannot write .*CT-0\.zip\.part: File too large"):
            download(archive, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(server.log) == 1
