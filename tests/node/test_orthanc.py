"""Orthanc sends a series to a node, as an archive does, and has its report afterwards."""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from bench.node_peers import free_port, send, wait_for
from ct3d_edge.node.config import Peer

from .conftest import MakeSeries, StartNode, require_program


class Orthanc:
    """An archive with a REST interface."""

    def __init__(self, folder: Path, node_port: int) -> None:
        self.port, self._http_port = free_port(), free_port()
        folder.mkdir()
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "HttpPort": self._http_port,
            "RemoteAccessAllowed": False,
            "DicomModalities": {"node": ["CT3D-EDGE", "127.0.0.1", node_port]},
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._process = subprocess.Popen(
            [require_program("Orthanc"), str(folder / "orthanc.json")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def peer(self) -> Peer:
        return Peer("ORTHANC", "127.0.0.1", self.port)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, data: bytes) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self._http_port}{path}", data)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    def wait_until_up(self) -> None:
        def answers() -> bool:
            assert self._process.poll() is None
            try:
                return bool(self.get("/system"))
            except OSError:
                return False

        wait_for(answers, "Orthanc answers")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def test_series_of_an_archive_gets_its_report_there(
    tmp_path: Path, start_node: StartNode, make_series: MakeSeries
) -> None:
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", port)
    try:
        orthanc.wait_until_up()
        start_node(peers=(Peer("ORTHANC", "127.0.0.1"),), destinations=(orthanc.peer,), port=port)
        sent = send(orthanc.port, sorted(make_series().iterdir()), called="ORTHANC")
        assert sent.returncode == 0, sent.stderr
        (series,) = orthanc.get("/series")
        assert orthanc.post("/modalities/node/store", series.encode())["FailedInstancesCount"] == 0
        wait_for(lambda: len(orthanc.get("/series")) == 2, "a report in the archive")
        (report,) = (
            found
            for name in orthanc.get("/series")
            if (found := orthanc.get(f"/series/{name}"))["MainDicomTags"]["Modality"] == "SR"
        )
        (study,) = orthanc.get("/studies")
        assert report["ParentStudy"] == study
        assert len(report["Instances"]) == 1
    finally:
        orthanc.stop()
