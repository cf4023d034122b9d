"""Hostile requests: framing, archives, names, damaged messages. No crash, no hang, nothing outside the folder."""

import gzip
import io
import json
import random
import socket
import struct
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from builders import MakeScan

from .conftest import Server, Start, read_all, wait_until

SMUGGLED = b"GET /v2 HTTP/1.1\r\nHost: smuggled\r\n\r\n"
CHUNKED = b"0\r\n\r\n" + SMUGGLED


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /v1/scans HTTP/1.1", b"Host: x", *lines, b"", body])


FRAMING = {
    "both lengths": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKED),
    "both lengths, other order": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED),
    "two lengths": post(b"Content-Length: 5", b"Content-Length: 50", body=b"12345" + SMUGGLED),
    "list of lengths": post(b"Content-Length: 5, 50", body=b"12345" + SMUGGLED),
    "length with sign": post(b"Content-Length: +5", body=b"12345" + SMUGGLED),
    "negative length": post(b"Content-Length: -1", body=SMUGGLED),
    "hexadecimal length": post(b"Content-Length: 0x5", body=b"12345" + SMUGGLED),
    "length of many digits": post(b"Content-Length: " + b"9" * 5000, body=SMUGGLED),
    "unknown coding": post(b"Transfer-Encoding: xchunked", body=CHUNKED),
    "two codings": post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED),
    "coding twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=CHUNKED),
    "coding behind a tab": post(b"Transfer-Encoding:\x0bchunked", body=CHUNKED),
    "space before the colon": post(b"Transfer-Encoding : chunked", body=CHUNKED),
    "folded line": post(b"Transfer-Encoding:\r\n chunked", b"Content-Length: 5", body=CHUNKED),
    "chunk size with sign": post(b"Transfer-Encoding: chunked", body=b"-1\r\n" + SMUGGLED),
    "chunk size with underscore": post(b"Transfer-Encoding: chunked", body=b"1_0\r\n" + SMUGGLED),
    "chunk size of many digits": post(b"Transfer-Encoding: chunked", body=b"f" * 40 + b"\r\n" + SMUGGLED),
    "chunk longer than it says": post(b"Transfer-Encoding: chunked", body=b"1\r\nxyz\r\n0\r\n\r\n" + SMUGGLED),
    "NUL in a header": post(b"X-A: a\0b", b"Content-Length: 0") + SMUGGLED,
    "CR in a header": post(b"X-A: a\rContent-Length: 5", body=b"12345") + SMUGGLED,
    "no host": b"POST /v1/scans HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "two hosts": b"POST /v1/scans HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "no version": b"POST /v1/scans\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("form", FRAMING)
def test_no_second_request_is_smuggled_behind_ambiguous_framing(server: Server, form: str) -> None:
    answer = server.send(FRAMING[form], 10)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 501", b"HTTP/1.1 431"), answer[:200]
    assert b"binary_tensor_data" not in answer  # of the smuggled request


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2 HTTP/1.1\r\nX-A: " + b"a" * 5_000_000,
        b"GET /v2 HTTP/1.1\r\n" + b"X: a\r\n" * 900_000,
        b"G" * 5_000_000,
    ],
    ids=["header", "headers", "method"],
)
def test_a_head_without_end_is_not_kept(server: Server, head: bytes) -> None:
    before = resident_bytes(server)
    assert server.send(head, 10)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 431")
    assert resident_bytes(server) < before + 50_000_000


def test_http_2_without_asking_is_refused(server: Server) -> None:
    answer = server.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED, 10)
    assert answer[9:12] in (b"400", b"404", b"505")
    assert b"binary_tensor_data" not in answer


@pytest.mark.parametrize("path", [b"/v1/scans", b"/nowhere"])
def test_a_body_that_turns_out_to_be_damaged_is_answered_once(server: Server, path: bytes) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
            connection.sendall(head)
            time.sleep(0.02)
            connection.sendall(b"zz\r\n")
            assert read_all(connection).count(b"HTTP/1.1 4") == 1
    assert "Traceback" not in server.log


def test_the_second_request_of_a_well_formed_pipeline_is_answered(server: Server) -> None:
    body = b'{"inputs": []}'
    head = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = server.send(head + body + SMUGGLED, 1)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"binary_tensor_data" in answer


def archive(entries: dict[str, bytes], change: tuple[bytes, bytes] = (b"", b""), link: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o120777 if link else 0o100644) << 16
            opened.writestr(info, data)
    return stream.getvalue().replace(*change) if change[0] else stream.getvalue()


ARCHIVES = {
    "path upwards": archive({"../../escaped.nii": b"x"}),
    "absolute path": archive({"/tmp/escaped.nii": b"x"}),  # noqa: S108
    "path of Windows": archive({"..\\..\\escaped.nii": b"x"}),
    "drive": archive({"C:/escaped.nii": b"x"}),
    "NUL in a name": archive({"escaped_.nii": b"x"}, (b"escaped_", b"escaped\0")),
    "link": archive({"link.nii": b"/etc/passwd"}, link=True),
    "bomb": archive({"bomb.nii": bytes(500_000_000)}),
    "bomb in a bomb": archive({"a.zip": archive({"bomb.nii": bytes(100_000_000)})}),
    "many entries": archive({f"{n}.dcm": b"x" for n in range(41)}),
    "wrong sizes": archive({"a.nii": bytes(1000)}, (struct.pack("<I", 1000), struct.pack("<I", 4_000_000_000))),
    "cut off": archive({"a.nii": bytes(100_000)})[:-30],
    "no entries": archive({}),
}


@pytest.mark.parametrize("form", ARCHIVES)
def test_an_archive_escapes_nothing_and_fills_nothing(server: Server, form: str) -> None:
    before, begun = resident_bytes(server), time.monotonic()
    answer = httpx.post(f"{server.url}/v1/scans", content=ARCHIVES[form], timeout=30)
    assert answer.status_code in (413, 422), answer.text
    assert answer.json()["error"]["code"]
    assert time.monotonic() - begun < 25
    assert resident_bytes(server) < before + 200_000_000
    assert list(server.temp.glob("*/*")) == []
    assert not [path for path in server.temp.parent.rglob("*") if "escaped" in path.name]
    assert not Path("/tmp/escaped.nii").exists()  # noqa: S108


def test_a_bomb_as_nifti_takes_neither_memory_nor_time(server: Server, make_scan: MakeScan) -> None:
    header = bytearray(make_scan("small.nii").read_bytes()[:352])
    before = resident_bytes(server)
    for shape in ((24, 20, 12), (1000, 1000, 900), (32767, 32767, 32767)):
        struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
        data = gzip.compress(bytes(header), 1) + gzip.compress(bytes(400_000_000), 6)
        answer = httpx.post(f"{server.url}/v1/scans", content=data, timeout=60)
        assert answer.status_code in (200, 422, 504), answer.text
        assert resident_bytes(server) < before + 400_000_000
    assert httpx.get(f"{server.url}/v2/health/live").status_code == 200


MULTIPART = {
    "no boundary": ("multipart/form-data", b"x"),
    "empty": ("multipart/form-data; boundary=b", b""),
    "not closed": ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx'),
    "no file": (
        "multipart/form-data; boundary=b",
        b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--\r\n",
    ),
    "other boundary": ("multipart/form-data; boundary=b", b"--c\r\n\r\nx\r\n--c--\r\n"),
    "long boundary": ("multipart/form-data; boundary=" + "b" * 5000, b"x"),
    "many parts": (
        "multipart/form-data; boundary=b",
        b"".join(b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n" for _ in range(50)) + b"--b--\r\n",
    ),
    "long header": ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: " + b"a" * 900_000),
    "many headers": ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 100_000 + b"\r\nx\r\n--b--\r\n"),
}


@pytest.mark.parametrize("form", MULTIPART)
def test_a_multipart_body_that_is_none_is_refused(server: Server, form: str) -> None:
    kind, body = MULTIPART[form]
    answer = httpx.post(f"{server.url}/v1/scans", content=body, headers={"Content-Type": kind}, timeout=30)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["code"] in ("bad_multipart", "too_many_files")


@pytest.mark.parametrize(
    "name", ["../../escaped.nii.gz", "/etc/escaped", "..\\escaped.nii", "a\0b.nii", "x" * 5000, "."]
)
def test_names_of_files_are_not_paths(server: Server, make_scan: MakeScan, name: str) -> None:
    data = make_scan().read_bytes()
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\n\r\n%b\r\n--b--\r\n' % (
        name.encode(),
        data,
    )
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{server.url}/v1/scans", content=body, headers=kind)
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert not set("/\\\0") & set(answer.json()["scan"])
    assert list(server.temp.glob("*/*")) == []


@pytest.mark.parametrize("uid", ["../1.2", "1.2\0", "%2e%2e%2f", "x" * 10_000, "\u202e1.2", "1.2\r\nX-A: b"])
def test_a_series_uid_is_not_a_path(server: Server, make_scan: MakeScan, uid: str) -> None:
    answer = httpx.post(f"{server.url}/v1/scans", params={"series_uid": uid}, content=make_scan().read_bytes())
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_scan")


@pytest.mark.parametrize("path", ["/v2/../../etc/passwd", "/v2/models/..%2f..%2fetc", "//v2", "/" + "a" * 20_000])
def test_a_path_leads_to_no_file(server: Server, path: str) -> None:
    assert server.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode(), 1).startswith(b"HTTP/1.1 404 ")


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return 1024 * int(status.read_text().partition("VmRSS:")[2].split()[0])


def messages(make_scan: MakeScan) -> list[bytes]:
    """Well-formed requests of every kind, to be damaged."""
    scan = make_scan().read_bytes()
    form = b'--b\r\nContent-Disposition: form-data; filename="a.nii.gz"\r\n\r\n' + scan + b"\r\n--b--\r\n"
    tensor = {"name": "volume", "shape": [1, 16, 12, 8, 1], "datatype": "FP32"}
    text = json.dumps({"inputs": [{**tensor, "data": [0.25] * 1536}]}).encode()
    binary = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 6144}}]}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(scan[i : i + 999]), scan[i : i + 999]) for i in range(0, len(scan), 999))
    infer = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
    length = b"Content-Length: %d"
    return [
        post(length % len(scan), body=scan),
        post(length % len(form), b"Content-Type: multipart/form-data; boundary=b", body=form),
        post(b"Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n"),
        post(length % len(zipped := archive({"a/b.nii.gz": scan})), body=zipped),
        infer % len(text) + b"\r\n" + text,
        infer % (len(binary) + 6144)
        + b"Inference-Header-Content-Length: %d\r\n\r\n" % len(binary)
        + binary
        + bytes(6144),
        b"GET /v2/models/tiny HTTP/1.1\r\nHost: x\r\n\r\n",
    ]


def damage(message: bytes, draw: random.Random) -> bytes:
    """A message with some bytes changed, removed, repeated or exchanged, mostly in its head."""
    data = bytearray(message)
    for _ in range(draw.randint(1, 4)):
        reach = len(data) if draw.random() < 0.4 else min(len(data), 300)
        at, count = draw.randrange(max(reach, 1)), draw.randint(1, 20)
        match draw.randrange(5):
            case 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del data[at : at + count]
            case 2:
                data[at:at] = data[at : at + count] * draw.randint(1, 50)
            case 3:
                data[at : at + 1] = draw.choice([b"0", b"9", b"-", b"\r\n", b"\0", b'"', b"..", b"/", b":", b"\xff"])
            case _:
                del data[draw.randrange(len(data)) if data else 0 :]
    return bytes(data)


def send_damaged(server: Server, data: bytes, pause: float) -> bytes:
    """The answer to a message that comes in two parts, until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        try:
            connection.sendall(data[: len(data) // 2])
            time.sleep(pause)
            connection.sendall(data[len(data) // 2 :])
        except ConnectionError:
            return b""
        return read_all(connection)


@pytest.mark.slow
def test_five_thousand_damaged_messages(start: Start, make_scan: MakeScan) -> None:
    server = start("--body-timeout", 0.5, "--max-files", 40, "--queue-size", 64, "--scan-timeout", 30)
    kinds, draw = messages(make_scan), random.Random(17)  # noqa: S311
    for kind in kinds:
        assert send_damaged(server, kind, 0).startswith(b"HTTP/1.1 200 "), kind[:200]
    sent = [(damage(draw.choice(kinds), draw), draw.choice([0, 0, 0, 0.01])) for _ in range(5000)]
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda each: send_damaged(server, *each), sent))
    statuses = [answer[9:12] for answer in answers if answer]
    assert len(statuses) > 3000
    assert all(answer.startswith(b"HTTP/1.1 ") for answer in answers if answer)
    assert b"500" not in statuses
    assert {b"200", b"400", b"404", b"422"} <= set(statuses)
    wait_until(lambda: not list(server.temp.glob("*/*")), "removal of all files")
    assert "Traceback" not in server.log
    assert "bug:" not in server.log
    for kind in kinds:
        assert send_damaged(server, kind, 0).startswith(b"HTTP/1.1 200 ")
    assert server.stop() == 0


@pytest.mark.slow
def test_memory_is_flat_over_five_thousand_requests(start: Start, make_scan: MakeScan) -> None:
    server, data = start("--queue-size", 64), make_scan().read_bytes()
    sizes = []

    def call(client: httpx.Client) -> None:
        for _ in range(125):
            assert client.post(f"{server.url}/v1/scans", content=data).status_code == 200

    for _ in range(10):
        with httpx.Client(timeout=60) as client, ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(call, client) for _ in range(4)]:
                done.result()
        sizes.append(resident_bytes(server))
    assert max(sizes[2:]) < sizes[1] * 1.05 + 5_000_000, sizes
    assert server.stop() == 0
