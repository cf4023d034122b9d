"""Ray itself, started here: the same records as without it, whatever dies on the way."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from builders import ANY_SCAN, MakeModel, MakeScan

from ct3d_edge.errors import ProviderError
from ct3d_edge.inference.model import open_model
from ct3d_edge.inference.predict_many import SEQUENTIAL_SCHEDULE
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.results.record import ResultRecord, Timing
from ct3d_edge.scan.qc_flag import QCFlag

pytest.importorskip("ray", reason="needs the extra ray")

from ct3d_edge.cluster.ray_engine import RayEngine  # after the skip
from ct3d_edge.cluster.ray_session import ray_session
from ct3d_edge.cluster.ray_worker import PredictionWorker

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, kept for the tests of this module, whose classes its workers cannot import."""
    from ray import cloudpickle

    this = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(this)
    with ray_session(None):
        yield
    cloudpickle.unregister_pickle_by_value(this)


@pytest.fixture
def scans(make_scan: MakeScan, tmp_path: Path) -> list[str]:
    """Twenty-four scans that differ, and four files that are none."""
    rng, folder = np.random.default_rng(0), tmp_path / "scans"
    for number in range(24):
        voxels = rng.integers(-900, 300, (24, 20, 12)).astype(np.int16)
        make_scan(f"scan_{number:02}.nii.gz", voxels=voxels, folder=folder)
    whole = (folder / "scan_00.nii.gz").read_bytes()
    for name, content in (("empty", b""), ("cut", whole[:-100]), ("text", b"no scan"), ("zeros", bytes(400))):
        (folder / f"x_{name}.nii.gz").write_bytes(content)
    return [str(path) for path in sorted(folder.iterdir())]


def comparable(records: Iterator[ResultRecord] | list[ResultRecord]) -> dict[str, ResultRecord]:
    """By scan, without the times."""
    return {record.scan: replace(record, timing=Timing()) for record in records}


def expected(model: Path, scans: list[str]) -> dict[str, ResultRecord]:
    with open_model(model, ANY_SCAN) as opened:
        results = opened.iter_results([Path(scan) for scan in scans], SEQUENTIAL_SCHEDULE)
        return comparable([result.record for result in results])


class OnAssignment(logging.Handler):
    """Calls a function with process and scan whenever a worker is given a scan."""

    def __init__(self, act: Callable[[int, str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._act = act

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "process %d on %s: %s" and isinstance(record.args, tuple):
            self._act(int(str(record.args[0])), str(record.args[2]))

    def __enter__(self) -> None:
        self._logger = logging.getLogger("ct3d_edge.cluster.ray_engine")
        self._level = self._logger.level
        self._logger.setLevel(logging.DEBUG)
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)


def kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


@pytest.mark.usefixtures("cluster")
def test_records_are_those_of_one_process(make_model: MakeModel, scans: list[str]) -> None:
    model = make_model()
    engine = RayEngine(load_model_file(model), ANY_SCAN, scans)
    records = list(engine.results(scans))
    assert len(records) == len(scans)
    assert comparable(records) == expected(model, scans)


@pytest.mark.usefixtures("cluster")
def test_a_scan_that_kills_its_process_twice_has_a_record(make_model: MakeModel, scans: list[str]) -> None:
    model, killer = make_model(), scans[3]

    def act(process: int, scan: str) -> None:
        if scan == killer:
            kill(process)

    with OnAssignment(act):
        found = comparable(RayEngine(load_model_file(model), ANY_SCAN, scans).results(scans))
    wanted = expected(model, scans)
    failure = found[killer].failure
    assert failure
    assert failure.code == "worker_died"
    assert found[killer].key is None, "--resume tries it again"
    assert {**found, killer: None} == {**wanted, killer: None}


@pytest.mark.usefixtures("cluster")
def test_workers_killed_at_random_moments_cost_no_record(make_model: MakeModel, scans: list[str]) -> None:
    model, chance, killed = make_model(), random.Random(4), set[str]()  # noqa: S311

    def act(process: int, scan: str) -> None:
        if scan not in killed and len(killed) < 25 and chance.random() < 0.9:  # a second death would be the scan's
            killed.add(scan)
            time.sleep(chance.random() * 0.02)
            kill(process)

    with OnAssignment(act):
        found = comparable(RayEngine(load_model_file(model), ANY_SCAN, scans).results(scans))
    assert len(killed) == 25
    assert found == expected(model, scans)


@pytest.mark.usefixtures("cluster")
def test_known_records_are_taken_over(make_model: MakeModel, scans: list[str]) -> None:
    model = load_model_file(make_model())
    first = {record.scan: record for record in RayEngine(model, ANY_SCAN, scans).results(scans)}
    again = {record.scan: record for record in RayEngine(model, ANY_SCAN, scans).results(scans, first)}
    for scan, record in first.items():
        assert record.key is None or again[scan] == record, "times included: it was not predicted again"


class OutOfMemoryWorker(PredictionWorker):
    """Its session fails for some scans."""

    failing: tuple[str, ...] = ("scan_03.nii.gz",)

    def predict(self, scan: str, known: ResultRecord | None) -> ResultRecord:
        if scan.endswith(self.failing):
            raise ProviderError("CUDA out of memory")
        return super().predict(scan, known)


class NeverWorker(OutOfMemoryWorker):
    """Its session fails for all of them."""

    failing = (".gz",)


@pytest.mark.usefixtures("cluster")
def test_a_session_that_fails_for_one_scan_costs_that_scan(make_model: MakeModel, scans: list[str]) -> None:
    model = make_model()
    engine = RayEngine(load_model_file(model), ANY_SCAN, scans)
    engine.worker_class = OutOfMemoryWorker
    found = comparable(engine.results(scans))
    failure = found[scans[3]].failure
    assert failure
    assert (failure.code, failure.message) == ("worker_died", "Two sessions failed for it: CUDA out of memory")
    assert {**found, scans[3]: None} == {**expected(model, scans), scans[3]: None}


@pytest.mark.usefixtures("cluster")
def test_a_machine_whose_session_fails_for_every_scan_is_left_out(make_model: MakeModel, scans: list[str]) -> None:
    engine = RayEngine(load_model_file(make_model()), ANY_SCAN, scans)
    engine.worker_class = NeverWorker
    with pytest.raises(ProviderError, match=r"No machine .* left out: .*CUDA out of memory"):
        list(engine.results(scans))


@pytest.mark.usefixtures("cluster")
def test_a_scan_that_went_away_has_a_record(make_model: MakeModel, scans: list[str]) -> None:
    Path(scans[5]).unlink()
    found = comparable(RayEngine(load_model_file(make_model()), ANY_SCAN, [str(Path(scans[0]).parent)]).results(scans))
    failure = found[scans[5]].failure
    assert failure
    assert failure.code == "not_found"
    assert len(found) == len(scans)


class WorkerWithoutDrive(PredictionWorker):
    """On a machine with the mount point of the scans, on which nothing is mounted."""

    def predict(self, scan: str, known: ResultRecord | None) -> ResultRecord:
        return replace(super().predict(f"{scan}.not_mounted", known), scan=scan)


@pytest.mark.usefixtures("cluster")
def test_a_machine_that_sees_an_empty_folder_is_left_out(make_model: MakeModel, scans: list[str]) -> None:
    engine = RayEngine(load_model_file(make_model()), ANY_SCAN, [str(Path(scans[0]).parent)])
    engine.worker_class = WorkerWithoutDrive
    with pytest.raises(ProviderError, match=r"No machine .* left out: .*scan_0\d.nii.gz is not there"):
        list(engine.results(scans))


@pytest.mark.usefixtures("cluster")
def test_half_of_a_pair_is_a_record_and_costs_no_machine(make_model: MakeModel, scans: list[str]) -> None:
    half = Path(scans[0]).with_name("half.hdr")
    nib.save(nib.Nifti1Pair(np.zeros((4, 4, 4), np.int16), np.eye(4)), half.with_suffix(".img"))
    half.with_suffix(".img").unlink()
    records = list(RayEngine(load_model_file(make_model()), ANY_SCAN, []).results([str(half), *scans[:2]]))
    assert {record.scan: record.failure and record.failure.code for record in records}[str(half)] == "not_found"
    assert len(records) == 3


@pytest.mark.usefixtures("cluster")
def test_flags_of_the_search_are_in_the_records(make_model: MakeModel, scans: list[str]) -> None:
    flag = QCFlag("series_split", "refuse", "Two patients.", "PatientID")  # downgraded to a warning
    engine = RayEngine(load_model_file(make_model()), ANY_SCAN, [], search_flags={scans[0]: [flag]})
    for record in engine.results(scans[:3]):
        assert any(each.code == flag.code for each in record.flags) == (record.scan == scans[0])


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("expected_value", "inputs", "reason"),
    [(0.999, [], "golden test"), (0.5, ["/nowhere/scans"], "/nowhere/scans is not there")],
)
def test_a_machine_that_cannot_take_part_is_left_out_by_name(
    make_model: MakeModel, scans: list[str], expected_value: float, inputs: list[str], reason: str
) -> None:
    model = load_model_file(make_model(expected=expected_value, tolerance=0.4))
    with pytest.raises(ProviderError, match=rf"No machine .* left out: .*{reason}"):
        list(RayEngine(model, ANY_SCAN, inputs).results(scans))


@pytest.mark.usefixtures("cluster")
def test_too_many_cores_for_any_machine_are_refused(make_model: MakeModel, scans: list[str]) -> None:
    with pytest.raises(ProviderError, match="4096 CPU"):
        list(RayEngine(load_model_file(make_model()), ANY_SCAN, [], cpus_per_worker=4096).results(scans))


def test_a_killed_driver_goes_on_with_resume(make_model: MakeModel, scans: list[str], tmp_path: Path) -> None:
    model, out = make_model(), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "ct3d_edge", "infer", str(tmp_path / "scans"), "-m", str(model), "-p", "cpu"]
    command += ["--engine", "ray", "--out", str(out)]
    journal = out.with_name("out.jsonl.journal")
    for enough in (3, 9, 15):
        driver = subprocess.Popen([*command, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while driver.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < enough):
            time.sleep(0.01)
        driver.kill()
        driver.wait()
    last = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert last.returncode == 1, last.stderr
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["scan"] for record in records] == scans


def test_a_machine_that_leaves_and_one_that_joins(make_model: MakeModel, scans: list[str]) -> None:
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    model = make_model()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        leaving = cluster.add_node(num_cpus=1)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        engine = RayEngine(load_model_file(model), ANY_SCAN, scans)
        results = engine.results(scans)
        found = [next(results) for _ in range(4)]
        cluster.add_node(num_cpus=1)
        cluster.remove_node(leaving)
        found += list(results)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(found) == len(scans)
    assert comparable(found) == expected(model, scans)


def test_nothing_that_answers_is_one_sentence() -> None:
    with pytest.raises(ProviderError, match=r"No Ray cluster answers at 127\.0\.0\.1:1"), ray_session("127.0.0.1:1"):
        pass
