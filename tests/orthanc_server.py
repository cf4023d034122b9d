"""A running Orthanc, an archive of other authors."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.node_peers import free_port

TIMEOUT_S = 60.0


class Orthanc:
    """Its ports and its REST interface."""

    def __init__(self, http: int, dicom: int) -> None:
        self.http, self.dicom = http, dicom

    def read(self, path: str, body: object = None) -> bytes:
        """The answer to GET, or to POST of a body as JSON."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", data, timeout=20) as answer:
            return bytes(answer.read())

    def get(self, path: str) -> Any:
        """A JSON answer."""
        return json.loads(self.read(path))

    def series(self, study_uid: str) -> dict[str, list[str]]:
        """Instances of each series of a study by modality and number, such as ``SR9901``."""
        query = {"Level": "Study", "Query": {"StudyInstanceUID": study_uid}, "Expand": True}
        found = [self.get(f"/series/{each}") for study in self._find(query) for each in study["Series"]]
        tags = [each["MainDicomTags"] for each in found]
        names = [f"{each['Modality']}{each.get('SeriesNumber', '')}" for each in tags]
        return {name: each["Instances"] for name, each in zip(names, found, strict=True)}

    def _find(self, query: object) -> list[Any]:
        answer: list[Any] = json.loads(self.read("/tools/find", query))
        return answer


@contextmanager
def run_orthanc(folder: Path, **settings: object) -> Iterator[Orthanc]:
    """An empty archive on ports of its own; the test is skipped where Orthanc is not installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    server = Orthanc(free_port(), free_port())
    storage = {"StorageDirectory": str(folder / "orthanc"), "IndexDirectory": str(folder / "orthanc")}
    ports = {"HttpPort": server.http, "DicomPort": server.dicom, "RemoteAccessAllowed": False}
    (folder / "orthanc.json").write_text(json.dumps({"Name": "test", "Plugins": [], **storage, **ports, **settings}))
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not _answers(server):
            assert process.poll() is None, (folder / "orthanc.log").read_text()
            assert time.monotonic() < deadline, "Orthanc does not answer"
            time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait(TIMEOUT_S)


def _answers(server: Orthanc) -> bool:
    try:
        server.get("/system")
    except OSError:
        return False
    return True
