"""The script of docs/examples/orthanc in a real Orthanc: a series goes to the node, and its report comes back."""

from pathlib import Path

from dicom_tools import run_tool
from orthanc_server import run_orthanc

from bench.node_peers import free_port, wait_for
from ct3d_edge.node.config import Peer

from .conftest import MakeSeries, StartNode

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "orthanc" / "ct3d-edge.lua"


def test_each_series_is_sent_and_its_report_comes_back(
    start_node: StartNode, make_series: MakeSeries, tmp_path: Path
) -> None:
    port = free_port()
    settings = {
        "LuaScripts": [str(SCRIPT)],
        "DicomModalities": {"ct3d-edge": ["CT3D-EDGE", "127.0.0.1", port]},
        "StableAge": 1,
    }
    with run_orthanc(tmp_path, **settings) as orthanc:
        peer = Peer("ORTHANC", "127.0.0.1", orthanc.dicom)
        node = start_node(peers=(Peer("ORTHANC", "127.0.0.1"),), destinations=(peer,), port=port)
        folders = [make_series(uid) for uid in ("1.2.3", "1.2.4")]
        for folder in folders:
            assert run_tool("storescu", "+sd", "127.0.0.1", orthanc.dicom, folder).returncode == 0
        wait_for(
            lambda: all("SR9901" in orthanc.series(f"{uid}.0") for uid in ("1.2.3", "1.2.4")), "reports in Orthanc"
        )
        wait_for(lambda: all(orthanc.get(f"/jobs/{job}")["State"] == "Success" for job in orthanc.get("/jobs")), "jobs")
        assert len(orthanc.get("/jobs")) == 2, "reports are not sent again"
        assert len(node.records(2)) == 2
        series = orthanc.series("1.2.3.0")
        assert {name: len(instances) for name, instances in series.items()} == {
            "CT": len(list(folders[0].iterdir())),
            "SR9901": 1,
        }
