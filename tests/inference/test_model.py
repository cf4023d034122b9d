"""The library as its user meets it."""

import itertools
import pickle
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LAS, MakeModel, MakeScan, endless_scan
from numpy.typing import NDArray

import ct3d_edge
from ct3d_edge import Model, Volume, load_model, open_scan, read_nifti
from ct3d_edge.contract import Contract
from ct3d_edge.errors import Ct3dError, ModelError, RefusedScanError, ScanError, UnreadableScanError, UsageError
from ct3d_edge.inference.predict_many import predict_scans
from ct3d_edge.inference.prepare import prepare_scan
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file
from ct3d_edge.modelfile.signature import reject_stored_voxels
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord, Timing
from ct3d_edge.scan.discovery import find_scans, list_scans
from ct3d_edge.scan.loader import content_sha256, list_scan_files, patient_identifiers
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import count_usable_cores


@pytest.fixture
def model(make_model: MakeModel) -> Iterator[Model]:
    with load_model(make_model(), "cpu") as opened:
        yield opened


def plain(record: ResultRecord) -> ResultRecord:
    return replace(record, timing=Timing())


def test_a_path_an_array_and_a_volume_get_the_same_answer(
    model: Model, make_scan: MakeScan, hu: NDArray[np.int16]
) -> None:
    path = make_scan()
    records = [model.predict(scan) for scan in (path, str(path), hu, hu.astype(np.float64), Volume(hu, affine=LAS))]
    assert len({record.prediction for record in records}) == 1
    assert [record.status for record in records] == ["ok", "ok", "warn", "warn", "ok"]
    assert [flag.code for flag in records[2].flags] == ["no_orientation"]
    assert (records[0].scan, records[2].scan) == (str(path), "(in memory)")
    assert records[0].scan_sha256 is not None
    assert records[2].scan_sha256 is None


def test_a_scan_without_an_answer_raises_what_its_record_says(model: Model, mixed_folder: Path) -> None:
    for record in model.predict_many(find_scans([mixed_folder])):
        if record.failure is None:
            alone = model.predict(record.scan)
            others = tuple(flag for flag in record.flags if flag.code != "duplicate")
            assert (alone.prediction, alone.flags) == (record.prediction, others)
            continue
        with pytest.raises(ScanError) as caught:
            model.predict(record.scan)
        assert (caught.value.code, str(caught.value)) == (record.failure.code, record.failure.message)
        assert type(caught.value) is (RefusedScanError if record.status == "refused" else UnreadableScanError)


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((4, 4)), "two_dimensional"),
        (np.zeros(()), "two_dimensional"),
        (np.zeros((4, 4, 4, 2)), "multiple_volumes"),
        (np.zeros((4, 4, 1)), "single_slice"),
        (np.zeros((4, 0, 4)), "single_slice"),
        (np.zeros((4, 4, 4), complex), "unsupported_dtype"),
        (np.zeros((4, 4, 4), bool), "unsupported_dtype"),
        (np.full((4, 4, 4), "a"), "unsupported_dtype"),
        (np.full((4, 4, 4), np.nan), "non_finite"),
    ],
)
def test_an_array_that_is_no_volume_is_refused(model: Model, array: NDArray[np.generic], code: str) -> None:
    with pytest.raises(RefusedScanError) as caught:
        model.predict(array)
    assert caught.value.code == code


@pytest.mark.parametrize("options", [{}, {"workers": 1}, {"workers": 3}, {"batch_size": 4}, {"scan_timeout": 60.0}])
def test_many_are_what_each_is_alone(model: Model, mixed_folder: Path, runner: Runner, options: dict[str, Any]) -> None:
    scans = find_scans([mixed_folder])
    found = [plain(record) for record in model.predict_many(scans, **options)]
    assert found == [
        plain(analysis.record) for analysis in predict_scans(scans, runner, checker=QualityChecker(runner.contract))
    ]
    assert [plain(record) for record in model.predict_many(iter(map(str, scans)), **options)] == found


@pytest.mark.parametrize("options", [{}, {"workers": 1}, {"workers": 3}, {"batch_size": 4}, {"scan_timeout": 60.0}])
def test_scans_in_memory_can_be_among_the_many(
    model: Model, make_scan: MakeScan, hu: NDArray[np.int16], options: dict[str, Any]
) -> None:
    scans: list[Any] = [
        make_scan(),
        hu + 7,
        str(make_scan("b.nii", hu + 9)),
        np.zeros((4, 4)),
        Volume(hu[::-1] + 11, affine=LAS),
    ]
    found = list(model.predict_many(scans, **options))
    assert [record.status for record in found] == ["ok", "warn", "ok", "refused", "ok"]
    for scan, record in zip(scans, found, strict=True):
        if record.failure is None:
            assert plain(record) == plain(model.predict(scan))
        else:
            with pytest.raises(RefusedScanError, match=re.escape(record.failure.message)):
                model.predict(scan)


def test_arrays_are_asked_for_when_they_are_begun(model: Model, hu: NDArray[np.int16]) -> None:
    records = model.predict_many(hu + number for number in itertools.count())
    assert len({next(records).prediction for _ in range(5)}) == 5


def test_axes_of_length_one_behind_the_third_are_dropped(model: Model, hu: NDArray[np.int16]) -> None:
    assert model.predict(hu[..., None, None]).prediction == model.predict(hu).prediction
    assert Volume(hu[..., None]).shape == hu.shape


def test_records_come_as_they_are_made(model: Model, make_scan: MakeScan, tmp_path: Path) -> None:
    endless = (make_scan(f"{number}.nii") for number in itertools.count())
    records = model.predict_many(endless)
    assert [next(records).status for _ in range(5)] == ["ok"] + ["warn"] * 4, "they are the same"


def test_many_can_be_asked_for_again_and_between(model: Model, make_scan: MakeScan) -> None:
    scans = [make_scan(f"{n}.nii") for n in range(6)]
    first, second = model.predict_many(scans), model.predict_many(scans, workers=2)
    answers = [(next(first).prediction, next(second).prediction, model.predict(scans[0]).prediction) for _ in scans]
    assert len({answer for row in answers for answer in row}) == 1


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"batch_size": 0}, {"batch_size": 10, "max_memory": 1000}, {"scan_timeout": 0}]
)
def test_an_impossible_wish_is_told_at_once(model: Model, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        model.predict_many([], **options)


def test_a_memory_budget_is_bytes_or_a_size(model: Model) -> None:
    assert model.make_schedule(8, workers=2, max_memory="1.5 GiB") == model.make_schedule(
        8, workers=2, max_memory=3 << 29
    )
    with pytest.raises(UsageError, match="found 'much'"):
        model.predict_many([], max_memory="much")
    with pytest.raises(UsageError, match="the memory limit is 1 kB"):
        model.predict_many([], batch_size=10, max_memory="1KB")


def test_one_path_is_not_many(model: Model, tmp_path: Path) -> None:
    for path in (tmp_path, str(tmp_path)):
        with pytest.raises(UsageError, match="takes several paths"):
            model.predict_many(path)  # type: ignore[arg-type]


def test_one_array_is_not_many(model: Model, hu: NDArray[np.int16]) -> None:
    for scan in (hu, Volume(hu)):
        with pytest.raises(UsageError, match="takes several scans"):
            model.predict_many(scan)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1])
def test_a_network_needs_a_thread(make_model: MakeModel, threads: int) -> None:
    with pytest.raises(UsageError, match=f"number of threads must be at least 1, found {threads}"):
        load_model(make_model(), "cpu", threads=threads)


def test_one_scan_has_all_cores_and_many_share_them(model: Model, make_scan: MakeScan) -> None:
    scan, cores = make_scan(), count_usable_cores()
    assert [record.status for record in model.predict_many([scan] * 2 * cores)] == ["ok"] * 2 * cores
    assert model.run_report.threads == 1
    model.predict(scan)
    assert model.run_report.threads == cores


def test_threads_that_are_asked_for_stay(make_model: MakeModel, make_scan: MakeScan) -> None:
    with load_model(make_model(), "cpu", threads=2) as model:
        assert [record.status for record in model.predict_many([make_scan()] * 3)] == ["ok"] * 3
        assert model.run_report.threads == 2


def only_unlike_training(record: ResultRecord) -> list[str]:
    """Findings but for those that a tiny scan is unlike the training scans, if the model knows what these were."""
    unlike = {"fov_extent", "spacing", "slice_count_shift", "out_of_distribution"}
    return [flag.code for flag in record.flags if flag.code not in unlike]


def test_the_shipped_model_says_what_it_is(make_scan: MakeScan) -> None:
    record = load_model(provider="cpu").predict(make_scan())
    assert only_unlike_training(record) == ["demonstration_model"]


def test_the_shipped_model_says_it_by_any_name(make_scan: MakeScan, tmp_path: Path) -> None:
    copy = tmp_path / "mine.onnx"
    copy.write_bytes(default_model_path().read_bytes())
    record = load_model(copy, "cpu").predict(make_scan())
    assert only_unlike_training(record) == ["demonstration_model"]


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_model(tmp_path / "absent.onnx")


def test_the_contract_is_the_models(model: Model, contract: Contract) -> None:
    assert model.contract == contract


def test_what_is_done_to_a_scan_can_be_sent_elsewhere(mixed_folder: Path, contract: Contract) -> None:
    """Engines that map over machines pickle the function, its arguments and its result."""
    work, scans = pickle.loads(pickle.dumps((prepare_scan, find_scans([mixed_folder]))))  # noqa: S301  # our own bytes
    for scan in scans:
        here = work(scan, contract)
        there = pickle.loads(pickle.dumps(here))  # noqa: S301
        assert (there.scan, there.sha256, there.failed, there.flags) == (
            here.scan,
            here.sha256,
            here.failed,
            here.flags,
        )
        assert (here.model_input is None) is (here.failed is not None)
        if here.model_input:
            np.testing.assert_array_equal(there.model_input.volume, here.model_input.volume)


def test_the_public_names_are_these() -> None:
    assert ct3d_edge.load_model is load_model
    assert ct3d_edge.ResultRecord is ResultRecord


def test_reading_a_scan_again_ends_with_its_time(model: Model, make_scan: MakeScan, tmp_path: Path) -> None:
    record = model.predict(make_scan())
    again = model.recompute(record, timeout_s=60)
    assert (again.record, again.model_input is not None) == (record, True)
    with pytest.raises(UnreadableScanError, match=r"not finished within 0\.2 s") as error:
        model.recompute(replace(record, scan=str(endless_scan(tmp_path / "endless"))), timeout_s=0.2)
    assert error.value.code == "timeout"
    with pytest.raises(UnreadableScanError, match="does not exist"):
        model.recompute(replace(record, scan="gone.nii"))


@pytest.mark.parametrize("by_with", [False, True])
def test_a_model_that_was_closed_says_so(make_model: MakeModel, make_scan: MakeScan, by_with: bool) -> None:
    model, scan = load_model(make_model(), "cpu"), make_scan()
    has_prediction = model.predict(scan)
    begun = model.predict_many([scan] * 20, workers=2)
    next(begun)
    session = weakref.ref(model.runner)
    if by_with:
        with model:
            pass
    else:
        model.close()
    model.close()
    uses: list[Callable[[], object]] = [
        lambda: model.predict(scan),
        lambda: model.predict_many([scan]),
        lambda: model.recompute(has_prediction),
        lambda: list(begun),
        model.__enter__,
    ]
    for use in uses:
        with pytest.raises(UsageError, match="was closed"):
            use()
    runner = session()
    assert runner is not None
    assert runner._session is None, "nothing holds the session"
    assert model.contract == runner.contract
    assert model.run_report.actual == "cpu"


def test_a_closed_model_frees_its_sessions(make_model: MakeModel, make_scan: MakeScan) -> None:
    model = load_model(make_model(), "cpu")
    model.predict(make_scan())
    sessions = [weakref.ref(runner._session) for runner in model._sessions._runners]
    model.close()
    assert sessions
    assert all(session() is None for session in sessions)


def test_wherever_a_path_is_taken_a_str_will_do(
    make_model: MakeModel, make_scan: MakeScan, contract: Contract, tmp_path: Path
) -> None:
    path, scan = make_model(), make_scan()
    with load_model(str(path), "cpu") as model:
        assert plain(model.predict(str(scan))) == plain(model.predict(scan))
        assert model.make_checker().check(str(scan)) == model.make_checker().check(scan)
    assert load_model_file(str(path)).sha256 == load_model_file(path).sha256
    np.testing.assert_array_equal(read_nifti(str(scan)).stored, read_nifti(scan).stored)
    assert open_scan(str(scan)).shape == open_scan(scan).shape
    assert find_scans(str(scan)) == find_scans(scan) == find_scans([str(scan)]) == [scan]
    assert list_scans(str(scan.parent)).scans == (scan,)
    assert list_scan_files(str(scan)) == (scan,)
    assert patient_identifiers(str(scan)) is None
    assert content_sha256(str(scan)) == content_sha256(scan) == prepare_scan(str(scan), contract).sha256
    with pytest.raises(UnreadableScanError, match="does not exist"):
        open_scan(str(tmp_path / "absent.nii"))


FLAG = re.compile(r"--[a-z]")


def test_the_library_speaks_of_arguments(
    make_model: MakeModel,
    make_scan: MakeScan,
    model: Model,
    hu: NDArray[np.int16],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No message names an option of the command line, but for whole commands to be run."""
    monkeypatch.setattr("ct3d_edge.providers.nvidia.CUDA_DRIVER", str(tmp_path / "libcuda.so.1"))
    folder = tmp_path / "nothing"
    folder.mkdir()
    scan, unoriented = make_scan(), make_scan("unoriented.nii", affine=None)
    many: list[Callable[[], object]] = [
        lambda: load_model(make_model(), "cuda"),
        lambda: load_model(make_model(), "tensorrt"),
        lambda: load_model(make_model(), "none"),  # type: ignore[arg-type]
        lambda: load_model(make_model(), allow=["nothing"]),
        lambda: load_model(make_model(), allow=["truncated"]),
        lambda: load_model(make_model(), "cpu", threads=0),
        lambda: load_model(make_model(), "cpu", gradcam=True),
        lambda: load_model(tmp_path / "absent.onnx"),
        lambda: load_model(scan),
        lambda: model.predict(tmp_path / "absent.nii"),
        lambda: model.predict(unoriented),
        lambda: model.predict(Volume(hu)),
        lambda: model.recompute(model.predict(scan), timeout_s=1e-9),
        lambda: model.predict_many(str(scan)),
        lambda: model.predict_many([scan], workers=0),
        lambda: model.predict_many([scan], batch_size=0),
        lambda: model.predict_many([scan] * 9, batch_size=9, max_memory="1KB"),
        lambda: model.predict_many([scan] * 9, workers=9, max_memory="1KB"),
        lambda: model.predict_many([scan] * 9, max_memory="lots"),
        lambda: model.predict_many([scan], scan_timeout=0),
        lambda: open_scan(folder),
        lambda: preprocess(Volume(hu), model.contract),
        lambda: find_scans([folder]),
        lambda: reject_stored_voxels(scan),
    ]
    said, silent = [], []
    for number, call in enumerate(many):
        try:
            given = call()
        except Ct3dError as error:
            said.append(str(error))
        else:
            told = [flag.detail for flag in getattr(given, "flags", ())]
            said += told
            silent += [] if told else [number]
    assert silent == []
    said += [flag.detail for flag in model.make_checker().check(unoriented).flags]
    said += [error[1] for error in [model.make_checker().check(unoriented).error] if error]
    outside_commands = [re.sub(r"(ct3d-edge|pip) [a-z]+ .*", "", message) for message in said]
    assert [message for message in outside_commands if FLAG.search(message)] == []
