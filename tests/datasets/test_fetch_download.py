"""One file from a server that does what servers do."""

import hashlib
import io
import socket
from collections.abc import Iterator
from dataclasses import replace
from email.message import Message
from itertools import pairwise
from pathlib import Path
from urllib.request import Request

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
from published import AT_ONCE, noise

from ct3d_edge.datasets.download import (
    BLOCK,
    Event,
    HttpRefused,
    Moved,
    Noted,
    PartFile,
    RemoteFile,
    _WebRedirects,
    download,
)
from ct3d_edge.errors import DownloadError, UsageError

BODY = noise(2 * BLOCK + 77)
OTHER = noise(len(BODY), seed=1)
PATH = "/CT-0.zip"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HostileServer() as running:
        running.files[PATH] = Content(BODY)
        yield running


@pytest.fixture
def source(server: HostileServer) -> RemoteFile:
    return RemoteFile("CT-0", server.address + PATH, len(BODY))


@pytest.fixture
def part(tmp_path: Path, source: RemoteFile) -> PartFile:
    return PartFile(tmp_path / "CT-0.zip.part", source.url)


def require_whole(part: PartFile, sha256: str, body: bytes = BODY) -> None:
    assert part.path.read_bytes() == body
    assert sha256 == hashlib.sha256(body).hexdigest()


def break_off(server: HostileServer, source: RemoteFile, part: PartFile, count: int = 1000) -> None:
    """Leave ``count`` bytes of a download."""
    server.script[PATH].append(dropping(count))
    with pytest.raises(DownloadError):
        download(source, part, replace(AT_ONCE, attempts=1))
    assert part.path.read_bytes() == server.files[PATH].body[:count]


def test_a_file_arrives_whole_with_its_hash(server: HostileServer, source: RemoteFile, part: PartFile) -> None:
    events: list[Event] = []
    require_whole(part, download(source, part, AT_ONCE, events.append))
    assert server.ranges(PATH) == [None]
    assert server.log[0].headers["User-Agent"].startswith("ct3d-edge/")
    moved = [event for event in events if isinstance(event, Moved)]
    assert all(one.done < next_.done for one, next_ in pairwise(moved))
    assert (moved[-1].done, moved[-1].total) == (len(BODY), len(BODY))


def test_a_connection_that_breaks_is_resumed_where_it_broke(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    server.script[PATH] += [dropping(1000), dropping(500)]
    events: list[Event] = []
    require_whole(part, download(source, part, AT_ONCE, events.append))
    assert server.ranges(PATH) == [None, "bytes=1000-", "bytes=1500-"]
    assert [seen.headers.get("If-Range") for seen in server.log] == [None, '"one"', '"one"']
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert len(notes) == 2
    assert "ended after 1,000 of" in notes[0]


def test_a_later_run_goes_on_from_what_an_earlier_one_left(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    break_off(server, source, part, BLOCK + 5)
    require_whole(part, download(source, part, AT_ONCE))
    assert server.ranges(PATH) == [None, f"bytes={BLOCK + 5}-"]


def test_a_complete_part_is_hashed_and_not_asked_for(server: HostileServer, source: RemoteFile, part: PartFile) -> None:
    download(source, part, AT_ONCE)
    require_whole(part, download(source, part, AT_ONCE))
    assert len(server.log) == 1


def test_without_an_etag_the_date_protects_a_resumed_download(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    server.files[PATH] = Content(BODY, etag='W/"weak"')
    break_off(server, source, part)
    require_whole(part, download(source, part, AT_ONCE))
    assert server.log[-1].headers["If-Range"] == "Wed, 01 Jul 2020 00:00:00 GMT"


def test_where_a_change_could_not_be_told_everything_is_fetched_again(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    server.files[PATH] = Content(BODY, etag=None, last_modified=None)
    break_off(server, source, part)
    require_whole(part, download(source, part, AT_ONCE))
    assert server.ranges(PATH) == [None, None]


@pytest.mark.parametrize("origin", [b"", b"{", b"[]", b'{"url": "http://elsewhere/CT-0.zip", "etag": "\\"one\\""}'])
def test_bytes_of_unknown_origin_are_not_continued(
    server: HostileServer, source: RemoteFile, part: PartFile, origin: bytes
) -> None:
    break_off(server, source, part)
    part.path.with_name(f"{part.path.name}.json").write_bytes(origin)
    require_whole(part, download(source, part, AT_ONCE))
    assert server.ranges(PATH) == [None, None]


def test_a_file_that_changed_in_between_is_not_spliced(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    break_off(server, source, part)
    server.files[PATH] = Content(OTHER, etag='"two"')
    events: list[Event] = []
    require_whole(part, download(source, part, AT_ONCE, events.append), OTHER)
    assert server.ranges(PATH) == [None, "bytes=1000-"]
    assert any(isinstance(event, Noted) and "starting over" in event.text for event in events)
    assert part.version() is not None
    assert part.version().etag == '"two"'  # type: ignore[union-attr]


def test_nor_by_a_server_that_sends_a_part_of_the_new_file(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    break_off(server, source, part)
    server.files[PATH] = Content(OTHER, etag='"two"')
    server.script[PATH].append(ignoring_conditions)
    require_whole(part, download(source, part, AT_ONCE), OTHER)
    assert server.ranges(PATH) == [None, "bytes=1000-", None]


@pytest.mark.parametrize("span", ["bytes 0-9/10", "bytes 1001-2000/2001", "10-20", "bytes 1000-x/*", ""])
def test_a_part_that_was_not_asked_for_starts_over(
    server: HostileServer, source: RemoteFile, part: PartFile, span: str
) -> None:
    break_off(server, source, part)
    server.script[PATH].append(answering(206, b"x" * 10, Content_Range=span))
    require_whole(part, download(source, part, AT_ONCE))


def test_a_server_that_ignores_ranges_restarts_cleanly(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    break_off(server, source, part)
    server.script[PATH].append(ignoring_ranges)
    require_whole(part, download(source, part, AT_ONCE))
    assert server.ranges(PATH) == [None, "bytes=1000-"]


def test_a_range_that_the_server_cannot_satisfy_starts_over(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    break_off(server, source, part)
    server.script[PATH].append(status(416))
    require_whole(part, download(source, part, AT_ONCE))
    assert server.ranges(PATH) == [None, "bytes=1000-", None]


def test_a_body_of_undeclared_length_is_counted(server: HostileServer, source: RemoteFile, part: PartFile) -> None:
    server.script[PATH] += [undeclared(BODY[:-1]), undeclared(BODY)]
    server.files[PATH] = Content(BODY, etag=None, last_modified=None)
    require_whole(part, download(source, part, AT_ONCE))


def test_more_than_declared_is_not_read(server: HostileServer, source: RemoteFile, part: PartFile) -> None:
    server.files[PATH] = Content(BODY + b"more")
    server.script[PATH].append(declaring(len(BODY)))
    require_whole(part, download(source, part, AT_ONCE))


@pytest.mark.parametrize("length", [len(BODY) - 1, len(BODY) + 1, 10**30])
def test_another_length_than_the_published_one_is_refused_before_anything_is_lost(
    server: HostileServer, source: RemoteFile, part: PartFile, length: int
) -> None:
    break_off(server, source, part)
    server.script[PATH].append(declaring(length))
    with pytest.raises(DownloadError, match=f"declares {length:,} bytes where {len(BODY):,} are published"):
        download(source, part, AT_ONCE)
    assert part.path.read_bytes() == BODY[:1000]


def test_more_than_published_is_neither_taken_nor_kept(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    server.script[PATH].append(undeclared(BODY + b"more"))
    with pytest.raises(DownloadError, match="sent more than the"):
        download(source, part, AT_ONCE)
    assert list(part.path.parent.iterdir()) == []


@pytest.mark.parametrize("behaviour", [dropping(10), declaring(len(BODY) - 1), undeclared(b"")])
def test_what_is_kept_never_exceeds_what_arrived(
    server: HostileServer, source: RemoteFile, part: PartFile, behaviour: Behaviour
) -> None:
    server.script[PATH] += [behaviour] * AT_ONCE.attempts
    with pytest.raises(DownloadError):
        download(source, part, AT_ONCE)
    kept = part.path.read_bytes() if part.path.exists() else b""
    assert BODY.startswith(kept)
    server.script.clear()
    require_whole(part, download(source, part, AT_ONCE))


@pytest.mark.parametrize(
    ("code", "asked", "words"),
    [
        (404, 1, "404 Not Found"),
        (403, 1, "403 Forbidden"),
        (204, 1, "204 No Content"),
        (500, 3, "500 Internal Server Error"),
        (503, 3, "503 Service Unavailable"),
        (429, 3, "429 Too Many Requests"),
        (599, 1, "599"),
    ],
)
def test_a_status_is_named_and_asked_again_only_if_it_may_pass(
    server: HostileServer, source: RemoteFile, part: PartFile, code: int, asked: int, words: str
) -> None:
    server.script[PATH] += [status(code)] * asked
    with pytest.raises(DownloadError) as caught:
        download(source, part, AT_ONCE)
    assert f"Asked for {source.url}: the server answered {words}" in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert len(server.log) == asked
    assert not part.path.exists()


def test_a_failure_that_passes_is_no_failure(server: HostileServer, source: RemoteFile, part: PartFile) -> None:
    server.script[PATH] += [status(503), rubbish]
    require_whole(part, download(source, part, AT_ONCE))


def test_silence_is_given_up_and_what_came_before_is_kept(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    server.script[PATH].append(hanging(1000))
    with pytest.raises(DownloadError, match=r"the server fell silent, at attempt 1 of 1\. 1,000 of"):
        download(source, part, replace(AT_ONCE, attempts=1, timeout=0.5))
    require_whole(part, download(source, part, AT_ONCE))
    assert server.ranges(PATH) == [None, "bytes=1000-"]


def test_pauses_double(
    server: HostileServer, source: RemoteFile, part: PartFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    server.script[PATH] += [status(500)] * 3
    require_whole(part, download(source, part, replace(AT_ONCE, attempts=4, pause=2.0)))
    assert pauses == [2.0, 4.0, 8.0]


def test_nobody_there_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        source = RemoteFile("CT-0", f"http://127.0.0.1:{unused.getsockname()[1]}/CT-0.zip", 10)
        with pytest.raises(DownloadError, match=r"the connection failed \(Connection refused\), at attempt 3 of 3"):
            download(source, PartFile(tmp_path / "part", source.url), AT_ONCE)


def test_redirections_are_followed_and_ranges_with_them(
    server: HostileServer, source: RemoteFile, part: PartFile
) -> None:
    server.files["/store"] = server.files[PATH]
    server.script[PATH] += [redirect("/store")] * 2
    server.script["/store"].append(dropping(1000))
    require_whole(part, download(source, part, AT_ONCE))
    assert server.ranges("/store") == [None, "bytes=1000-"]


@pytest.mark.parametrize(
    "to", ["file:///etc/hostname", "ftp://127.0.0.1/CT-0.zip", "data:,x", "gopher://x", "http://[::1", PATH]
)
def test_redirections_out_of_the_web_or_round_in_circles_are_refused(
    server: HostileServer, source: RemoteFile, part: PartFile, to: str
) -> None:
    server.script[PATH] += [redirect(to)] * 12
    with pytest.raises(DownloadError, match=r"no web address|cannot be understood"):
        download(source, part, AT_ONCE)
    assert not part.path.exists()


def test_nobody_is_led_from_https_to_http() -> None:
    def follow(old: str, new: str) -> str | None:
        asked = _WebRedirects().redirect_request(Request(old), io.BytesIO(), 302, "Found", Message(), new)  # noqa: S310
        return asked.full_url if asked else None

    assert follow("https://example.org/a", "https://example.org/b") == "https://example.org/b"
    assert follow("http://example.org/a", "https://example.org/b") == "https://example.org/b"
    with pytest.raises(HttpRefused, match="from https to http"):
        follow("https://example.org/a", "http://example.org/b")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "CT-0.zip", "data:,x"])
def test_only_web_addresses_are_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="no http or https address"):
        download(RemoteFile("CT-0", url, 10), PartFile(tmp_path / "part", url), AT_ONCE)


def test_a_proxy_of_the_system_is_used(
    server: HostileServer, source: RemoteFile, part: PartFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", server.address)
    server.files["http://ct.example/CT-0.zip"] = server.files[PATH]
    require_whole(part, download(replace(source, url="http://ct.example/CT-0.zip"), part, AT_ONCE))


def test_a_disk_that_cannot_be_written_to_is_told(server: HostileServer, source: RemoteFile, part: PartFile) -> None:
    part.path.mkdir()
    with pytest.raises(UsageError, match=r"Cannot write .*CT-0\.zip\.part: Is a directory"):
        download(source, part, AT_ONCE)
