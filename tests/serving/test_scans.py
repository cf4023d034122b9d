"""``POST /v1/scans``: the record is the one that `infer` writes."""

import gzip
import io
import json
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from builders import DICOM, DOWNGRADE_ALL, MakeModel, MakeScan
from numpy.typing import NDArray

from ct3d_edge.cli.app import main
from ct3d_edge.serving.uploads import Upload

from .conftest import Server, Start, without_times

Capture = pytest.CaptureFixture[str]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["ct3d-edge", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (None, 0)


def zip_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.fixture
def record_of(monkeypatch: pytest.MonkeyPatch, capsys: Capture, make_model: MakeModel) -> Any:
    """The record that `infer` writes of a scan."""

    def infer(scan: Path) -> dict[str, Any]:
        capsys.readouterr()
        run(monkeypatch, "infer", scan, "--model", make_model(), *DOWNGRADE_ALL, "-f", "jsonl", "-p", "cpu")
        record: dict[str, Any] = json.loads(capsys.readouterr().out)
        return record

    return infer


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii"])
def test_the_record_of_a_nifti_file_is_that_of_infer(
    server: Server, make_scan: MakeScan, record_of: Any, name: str
) -> None:
    scan = make_scan(name)
    answer = httpx.post(f"{server.url}/v1/scans", content=scan.read_bytes())
    assert answer.status_code == 200
    assert without_times(answer.json()) == without_times(record_of(scan))
    assert answer.json()["scan"] == name
    assert list(server.temp.glob("*/*")) == []


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_the_record_of_another_format_is_that_of_infer(
    server: Server, make_scan: MakeScan, record_of: Any, suffix: str
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    scan = make_scan().with_name(f"scan{suffix}")
    sitk.WriteImage(sitk.ReadImage(str(make_scan())), str(scan), True)
    answer = httpx.post(f"{server.url}/v1/scans", content=scan.read_bytes())
    assert without_times(answer.json()) == without_times(record_of(scan))


def test_multipart_gives_the_record_the_name_of_the_client(server: Server, make_scan: MakeScan) -> None:
    data = make_scan().read_bytes()
    answer = httpx.post(f"{server.url}/v1/scans", files={"file": ("Doe Jane.nii.gz", data)})
    assert (answer.status_code, answer.json()["scan"]) == (200, "Doe Jane.nii.gz")
    assert "Doe" not in server.log


def test_the_sentence_about_a_failure_names_the_file_of_the_client(server: Server, make_scan: MakeScan) -> None:
    data = make_scan("a.nii.gz").read_bytes()[:-20]
    answer = httpx.post(f"{server.url}/v1/scans", files={"file": ("Doe Jane.nii.gz", data)})
    assert (answer.status_code, answer.json()["scan"]) == (422, "Doe Jane.nii.gz")
    assert answer.json()["error"]["message"].startswith("Doe Jane.nii.gz ends too early")


@pytest.mark.skipif(not DICOM, reason="needs the extra dicom")
def test_several_files_give_the_record_the_name_of_the_first(
    server: Server, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    from dicom_files import write_series

    files = [("file", (path.name, path.read_bytes())) for path in sorted(write_series(tmp_path / "a", hu).iterdir())]
    answer = httpx.post(f"{server.url}/v1/scans", files=files)
    assert (answer.status_code, answer.json()["scan"]) == (200, files[0][1][0])


def test_names_of_several_scans_are_those_of_the_client(server: Server, make_scan: MakeScan) -> None:
    data = make_scan().read_bytes()
    files = [("file", (f"../up/{name}.nii.gz", data)) for name in ("one", "two")]
    answer = httpx.post(f"{server.url}/v1/scans", files=files)
    assert "2 scans: one.nii.gz, two.nii.gz." in answer.json()["error"]["message"]


CURL = {
    "data": ["--data-binary", "@SCAN"],
    "form": ["-F", "file=@SCAN"],
    "upload": ["-X", "POST", "-T", "SCAN"],
    "chunked": ["-H", "Transfer-Encoding: chunked", "--data-binary", "@SCAN"],
}


@pytest.mark.skipif(not which("curl"), reason="needs curl")
@pytest.mark.parametrize("form", CURL)
def test_curl_sends_scans_in_every_way_it_has(server: Server, make_scan: MakeScan, form: str) -> None:
    options = [word.replace("SCAN", str(make_scan("head.nii.gz"))) for word in CURL[form]]
    command = ["curl", "-sS", "--fail-with-body", *options, f"{server.url}/v1/scans"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout)["label"] in ("normal", "abnormal")


@pytest.mark.skipif(not which("curl"), reason="needs curl")
def test_curl_learns_of_a_limit_before_it_sends_the_body(server: Server, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as stream:
        stream.truncate(1 << 30)  # sparse
    shown = "%{http_code} %{size_upload}"
    command = ["curl", "-s", "-o", tmp_path / "answer", "-w", shown, "-X", "POST", "-T", big, f"{server.url}/v1/scans"]
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    assert done.stdout.split() == [b"413", b"0"]
    assert "larger than 2 MB" in (tmp_path / "answer").read_text()


@pytest.mark.skipif(not DICOM, reason="needs the extra dicom")
def test_a_zip_archive_of_a_dicom_series_gives_the_record_of_its_folder(
    server: Server, hu: NDArray[np.int16], tmp_path: Path, record_of: Any
) -> None:
    from dicom_files import write_series

    folder = write_series(tmp_path / "series", hu)
    files = {f"study/a b/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
    answer = httpx.post(f"{server.url}/v1/scans", content=zip_of({**files, "README": b"not a scan"}))
    assert answer.status_code == 200, answer.text
    wanted = without_times(record_of(folder))
    assert without_times(answer.json()) == wanted
    several = httpx.post(f"{server.url}/v1/scans", files=[("f", (name, data)) for name, data in files.items()])
    assert without_times(several.json()) == wanted


@pytest.mark.skipif(not DICOM, reason="needs the extra dicom")
def test_a_compressed_dicom_file_has_the_name_of_one(server: Server, hu: NDArray[np.int16], tmp_path: Path) -> None:
    from dicom_files import write_series

    data = min(write_series(tmp_path / "series", hu).iterdir()).read_bytes()
    names = [httpx.post(f"{server.url}/v1/scans", content=body).json()["scan"] for body in (data, gzip.compress(data))]
    assert names == ["scan.dcm", "scan.dcm.gz"]


@pytest.mark.skipif(not DICOM, reason="needs the extra dicom")
def test_of_several_series_one_can_be_chosen(server: Server, hu: NDArray[np.int16], tmp_path: Path) -> None:
    from dicom_files import write_series

    folders = [write_series(tmp_path / series, hu[:, :, :8], series) for series in ("1.2.3", "1.2.4")]
    data = zip_of({f"{path.parent.name}/{path.name}": path.read_bytes() for f in folders for path in f.iterdir()})
    refused = httpx.post(f"{server.url}/v1/scans", content=data)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "several_scans")
    assert "1.2.3, 1.2.4" in refused.json()["error"]["message"]
    assert httpx.post(f"{server.url}/v1/scans?series_uid=1.2.4", content=data).json()["scan"] == "1.2.4"
    assert httpx.post(f"{server.url}/v1/scans?series_uid=1.2", content=data).json()["error"]["code"] == "no_scan"


@pytest.mark.parametrize("data", [b"", b"no scan at all" * 100, b"\x1f\x8b" + bytes(100), b"PK\x03\x04"])
def test_what_is_no_scan_is_answered_with_the_reason(server: Server, data: bytes) -> None:
    answer = httpx.post(f"{server.url}/v1/scans", content=data)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"]
    assert str(server.temp) not in answer.text


def test_a_refused_scan_is_an_answer_with_its_reason(
    server: Server, make_scan: MakeScan, hu: NDArray[np.int16]
) -> None:
    flat = make_scan("flat.nii.gz", voxels=hu[:, :, :1]).read_bytes()
    answer = httpx.post(f"{server.url}/v1/scans", content=flat)
    assert (answer.status_code, answer.json()["status"]) == (422, "refused")


def test_map_and_report_come_in_one_archive(
    start: Start,
    make_model: MakeModel,
    make_scan: MakeScan,
    hu: NDArray[np.int16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(8):
        make_scan(f"{number}.nii.gz", voxels=(hu + 60 * number).astype(np.int16), folder=tmp_path / "parity")
    model, out = make_model(), tmp_path / "explains.onnx"
    run(monkeypatch, "optimize", "-m", model, "-o", out, "--with-gradcam-output", "--parity-data", tmp_path / "parity")
    server = start("--gradcam", model=out)
    answer = httpx.post(f"{server.url}/v1/scans?output=gradcam&output=report", content=make_scan().read_bytes())
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {"record.json", "gradcam.nii.gz", "gradcam.png", "report.html"}
        record = json.loads(archive.read("record.json"))
        overlay = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read("gradcam.nii.gz")))
        assert archive.read("report.html").lower().startswith(b"<!doctype html>")
    assert overlay.shape == hu.shape
    assert record["label"] in ("normal", "abnormal")
    assert server.stop() == 0


def test_many_clients_get_the_report_of_their_own_scan(start: Start, make_scan: MakeScan) -> None:
    server = start("--queue-size", 32)
    scans = {f"scan{number}.nii.gz": make_scan(f"scan{number}.nii.gz").read_bytes() for number in range(24)}

    def call(name: str) -> tuple[str, str, str]:
        files = {"file": (name, scans[name])}
        answer = httpx.post(f"{server.url}/v1/scans?output=report", files=files, timeout=60)
        assert answer.status_code == 200, answer.text
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            return name, json.loads(archive.read("record.json"))["scan"], archive.read("report.html").decode()

    with ThreadPoolExecutor(8) as pool:
        for name, scan, page in pool.map(call, scans):
            assert scan == name
            assert {other for other in scans if other in page} == {name}


def test_outputs_that_the_server_cannot_make_are_refused(server: Server) -> None:
    assert httpx.post(f"{server.url}/v1/scans?output=gradcam", content=b"x").status_code == 501
    assert httpx.post(f"{server.url}/v1/scans?output=all", content=b"x").status_code == 400
    assert httpx.post(f"{server.url}/v1/scans?outptu=report", content=b"x").status_code == 400


def test_files_are_named_as_the_client_named_them() -> None:
    upload = Upload((Path("x/00000"), Path("x/00001"), Path("x/00002")), ("a.dcm", None, "c d.dcm"))
    message = "00002.dcm ends before its pixels do; so do 00000.dcm.gz, 00001.dcm and 100002.dcm."
    expected = "c d.dcm ends before its pixels do; so do a.dcm, 00001.dcm and 100002.dcm."
    assert upload.with_client_names(message) == expected
    assert Upload((Path("x/scan"),), ("b.nii",)).with_client_names("The scan scan.nii.gz") == "The scan b.nii"
