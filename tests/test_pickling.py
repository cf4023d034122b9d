"""What the library raises and gives passes from one process to another, by every start method."""

import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LAS, MakeModel, MakeScan
from networks import KERAS
from numpy.typing import NDArray
from records import ANSWERED, FAILED, give_back, raise_error

import ct3d_edge
from ct3d_edge import Volume, load_model, open_scan
from ct3d_edge.errors import NoScansError, RefusedScanError, ScanError, UnreadableScanError
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord, PartialResultError
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.discovery import discover_scans
from ct3d_edge.serving.request_error import RequestError

PACKAGE = Path(ct3d_edge.__file__).parent
DEFINES = re.compile(r"^class \w+\(\w*(Exception|Error)\)", re.MULTILINE)

OWN_ARGUMENTS: dict[type[BaseException], tuple[Any, ...]] = {
    **dict.fromkeys((ScanError, UnreadableScanError, RefusedScanError), ("truncated", "It ends too early.")),
    RequestError: (413, "body_too_large", "What was asked, and what was found.", {"Retry-After": "1"}),
    PartialResultError: (
        BenchRecord("how long?", {}, {}, {}, Samples({}, {"infer": (1.0,)}), incomplete="it was interrupted"),
    ),
}
"""Of exceptions with a constructor of their own."""

OWN_KEYWORDS: dict[type[BaseException], dict[str, Any]] = {NoScansError: {"skipped": True}}


@pytest.fixture(scope="module", params=multiprocessing.get_all_start_methods())
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context(request.param)) as executor:
        yield executor


def exceptions() -> Iterator[type[BaseException]]:
    """Every exception class of the package, of all modules whose text defines one."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if not DEFINES.search(path.read_text(encoding="utf-8")) or (".conversion." in name and not KERAS):
            continue
        for each in vars(import_module(name)).values():
            if isinstance(each, type) and issubclass(each, BaseException) and each.__module__ == name:
                yield each


def test_every_exception_arrives_as_it_was_raised(pool: ProcessPoolExecutor) -> None:
    for kind in exceptions():
        error = kind(*OWN_ARGUMENTS.get(kind, ("What was asked, and what was found.",)), **OWN_KEYWORDS.get(kind, {}))
        there = pool.submit(give_back, error).result(60)
        with pytest.raises(kind) as caught:
            pool.submit(raise_error, error).result(60)
        for arrived in (there, caught.value):
            assert type(arrived) is kind
            assert (str(arrived), arrived.args) == (str(error), error.args)
            assert {name: value for name, value in vars(arrived).items() if name != "__cause__"} == vars(error)


def test_a_bad_scan_does_not_break_the_pool(pool: ProcessPoolExecutor, make_scan: MakeScan, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no scan")
    with pytest.raises(ScanError) as here:
        open_scan(bad)
    with pytest.raises(type(here.value)) as there:
        pool.submit(open_scan, bad).result(60)
    assert (there.value.code, str(there.value)) == (here.value.code, str(here.value))
    assert pool.submit(open_scan, make_scan()).result(60).shape == open_scan(make_scan()).shape


def test_records_and_what_they_hold_arrive_whole(
    pool: ProcessPoolExecutor, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    with load_model(make_model(), "cpu") as model:
        records: list[ResultRecord] = list(model.predict_many([make_scan(), tmp_path / "absent.nii"]))
        quality_report = QualityChecker(model.contract).check(make_scan())
        things = [ANSWERED, FAILED, *records, *ANSWERED.flags, quality_report, model.run_report, model.contract]
    things.append(discover_scans([make_scan()]))
    assert [pool.submit(give_back, thing).result(60) for thing in things] == things


def test_a_volume_arrives_with_its_voxels(pool: ProcessPoolExecutor, hu: NDArray[np.int16]) -> None:
    arrived = pool.submit(give_back, Volume(hu, slope=2.0, affine=LAS)).result(60)
    assert isinstance(arrived, Volume)
    np.testing.assert_array_equal(arrived.stored, hu)
    np.testing.assert_array_equal(arrived.affine, LAS)
    assert arrived.slope == 2.0
