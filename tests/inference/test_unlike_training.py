"""Scans that are not like those of training: told in records, whichever way they are judged."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LAS, TINY_FEATURES, MakeModel, MakeScan, tiny_proto
from numpy.typing import NDArray

from ct3d_edge import Model, load_model
from ct3d_edge.contract import Contract, FeatureStatistics, TrainingRange
from ct3d_edge.errors import ContractError
from ct3d_edge.modelfile.model_file import load_model_file, parse_model_file
from ct3d_edge.modelfile.signature import POOLED_OUTPUT
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.quality_control.domain_shift import EXTENT_SLACK, SAMPLING_SLACK, AcquisitionGeometry, MahalanobisOOD
from ct3d_edge.quality_control.reference_stats import fit_feature_statistics
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

CODE = "out_of_distribution"


def usual(hu: NDArray[np.int16], count: int, seed: int) -> list[NDArray[np.int16]]:
    draw = np.random.default_rng(seed)
    return [(hu + draw.normal(draw.uniform(-40, 40), 30, hu.shape)).astype(np.int16) for _ in range(count)]


@pytest.fixture
def known(make_model: MakeModel, hu: NDArray[np.int16]) -> FeatureStatistics:
    """Of the tiny network's features of usual scans."""
    anything = fit_feature_statistics(np.eye(TINY_FEATURES).repeat(30, 0), np.eye(TINY_FEATURES).repeat(9, 0))
    with load_model(make_model("first.onnx", feature_statistics=anything), "cpu") as model:
        sets = [[_pooled(model, scan) for scan in usual(hu, count, seed)] for count, seed in ((30, 1), (15, 2))]
    return fit_feature_statistics(*sets)


def bony(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """A block of bone where the lungs were; still HU, and still in air."""
    changed = hu.copy()
    changed[6:18, 6:14] = 390
    return changed


def _pooled(model: Model, scan: NDArray[np.int16]) -> NDArray[np.float32]:
    from ct3d_edge.preprocessing import preprocess

    pooled = model.runner.outputs(preprocess(Volume(scan, affine=LAS), model.contract).volume[None]).pooled
    assert pooled is not None
    return np.asarray(pooled[0])


@pytest.fixture
def model(make_model: MakeModel, known: FeatureStatistics) -> Iterator[Model]:
    with load_model(make_model(feature_statistics=known), "cpu") as opened:
        yield opened


@pytest.fixture
def folder(make_scan: MakeScan, hu: NDArray[np.int16], tmp_path: Path) -> Path:
    """Three scans like those of training, two unlike them, one that cannot be read."""
    place = tmp_path / "scans"
    for number, scan in enumerate(usual(hu, 3, 3)):
        make_scan(f"usual_{number}.nii.gz", voxels=scan, folder=place)
    make_scan("bony.nii.gz", voxels=bony(hu), folder=place)
    make_scan("airless.nii.gz", voxels=np.where((hu > -950) & (hu < -300), 40, hu).astype(np.int16), folder=place)
    (place / "broken.nii.gz").write_bytes(b"")
    return place


def told(record: ResultRecord) -> list[str]:
    return [flag.code for flag in record.flags if flag.code == CODE]


def by_name(records: Any) -> dict[str, ResultRecord]:
    return {Path(record.scan).name.split(".")[0]: record for record in records}


def test_what_is_unlike_training_is_told_with_distance_and_limit(
    model: Model, known: FeatureStatistics, hu: NDArray[np.int16]
) -> None:
    like, unlike = usual(hu, 1, 4)[0], bony(hu)
    assert model.predict(Volume(like, affine=LAS)).flags == ()
    record = model.predict(Volume(unlike, affine=LAS))
    (flag,) = record.flags
    (distance,) = MahalanobisOOD(known).distances(_pooled(model, unlike)[None])
    assert (flag.code, flag.severity, record.status) == (CODE, "warn", "warn")
    assert flag.value == f"{distance:.3f} {known.threshold:.3f}"
    assert distance > known.threshold
    assert f"the 30 training scans is {distance:.2f}; the limit is {known.threshold:.2f}" in flag.detail
    assert record.prediction is not None


@pytest.mark.parametrize("plan", [{}, {"workers": 1}, {"batch_size": 3}, {"batch_size": 3, "workers": 2}], ids=str)
def test_batches_and_workers_tell_the_same(model: Model, folder: Path, plan: dict[str, int]) -> None:
    scans = sorted(folder.iterdir())
    records = by_name(model.predict_many(scans, **plan))
    assert {name for name, record in records.items() if told(record)} == {"bony", "airless"}
    for name in ("bony", "airless", "usual_0"):
        (scan,) = [scan for scan in scans if scan.name.startswith(name)]
        assert records[name].flags == model.predict(scan).flags
    assert records["broken"].failure is not None


def test_allowed_it_passes(make_model: MakeModel, known: FeatureStatistics, folder: Path) -> None:
    with load_model(make_model(feature_statistics=known), "cpu", allow=[CODE]) as model:
        record = model.predict(folder / "bony.nii.gz")
    assert (record.status, record.flags, record.allowed) == ("ok", (), (CODE,))


def test_a_model_that_cannot_know_says_nothing(make_model: MakeModel, folder: Path) -> None:
    with load_model(make_model(), "cpu") as model:
        assert not any(told(record) for record in model.predict_many(sorted(folder.iterdir())))


def test_a_file_without_the_output_says_nothing(
    make_model: MakeModel, known: FeatureStatistics, contract: Contract, tmp_path: Path, folder: Path
) -> None:
    proto = tiny_proto(replace(contract, feature_statistics=known))
    del proto.graph.output[1]
    path = tmp_path / "without.onnx"
    path.write_bytes(proto.SerializeToString())
    with load_model(path, "cpu") as model:
        assert model.predict(folder / "bony.nii.gz").flags == ()


def test_an_output_of_another_length_is_refused(contract: Contract, known: FeatureStatistics, tmp_path: Path) -> None:
    proto = tiny_proto(replace(contract, feature_statistics=known))
    proto.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 5
    with pytest.raises(ContractError, match=rf"a float output {POOLED_OUTPUT} of shape \('batch', 2\)"):
        parse_model_file(tmp_path / "m.onnx", proto.SerializeToString())


def test_the_answer_is_the_same_with_and_without(
    make_model: MakeModel, known: FeatureStatistics, contract: Contract
) -> None:
    volumes = np.random.default_rng(0).random((3, *contract.shape), np.float32)
    with (
        Runner(load_model_file(make_model("bare.onnx")), SessionRequest("cpu")) as bare,
        Runner(load_model_file(make_model(feature_statistics=known)), SessionRequest("cpu")) as full,
    ):
        assert np.array_equal(bare.infer(volumes), full.infer(volumes))
        assert bare.outputs(volumes).pooled is None
        pooled = full.outputs(volumes).pooled
    assert pooled is not None
    assert pooled.shape == (3, TINY_FEATURES)


def test_bound_buffers_give_pooled_features_too(contract: Contract, known: FeatureStatistics) -> None:
    import onnxruntime as ort

    from ct3d_edge.session.session import IoBinding

    changed = replace(contract, feature_statistics=known)
    session = ort.InferenceSession(tiny_proto(changed).SerializeToString(), providers=["CPUExecutionProvider"])
    lengths = {"probability": 1, POOLED_OUTPUT: TINY_FEATURES}
    volumes = np.random.default_rng(0).random((5, *contract.input_shape), np.float32)
    expected = session.run(list(lengths), {"volume": volumes})
    found = IoBinding(session, "volume", contract.input_shape, lengths, 5, ("cpu", 0)).run(volumes)
    for right, value in zip(expected, found, strict=True):
        assert value == pytest.approx(right, abs=1e-6)


SHAPE = (40, 60, 40)
RANGE = TrainingRange(
    scans=12,
    extent_mm=((200.0, 220.0), (300.0, 330.0), (310.0, 330.0)),
    spacing_mm=((5.0, 5.2), (5.0, 5.2), (8.0, 8.0)),
    slices=(38.0, 42.0),
)


def lying(shape: tuple[int, int, int], affine: NDArray[np.float64] | None, trained: TrainingRange) -> dict[str, Any]:
    contract = Contract(shape=(16, 12, 8), training_range=trained)
    scan = Volume(np.zeros(shape, np.int16), affine=affine)
    found = QualityChecker(contract)._acquisition_flags(scan)
    return {flag.code: flag for flag in found}


def test_a_scan_that_lies_like_those_of_training_passes() -> None:
    found = lying(SHAPE, np.diag([-5.0, 5, 8, 1]), RANGE)
    assert {code: found[code].severity for code in ("fov_extent", "slice_count_shift")} == {
        "fov_extent": "ok",
        "slice_count_shift": "ok",
    }
    assert found["slice_count_shift"].value == 40


def test_axes_are_those_of_the_body_however_the_array_lies() -> None:
    turned = np.zeros((4, 4))
    turned[1, 0], turned[2, 1], turned[0, 2], turned[3, 3] = -10, 8, 10, 1  # P, S, R
    lie = AcquisitionGeometry.of(Volume(np.zeros((30, 40, 20), np.int16), affine=turned))
    assert lie == AcquisitionGeometry((200.0, 300.0, 320.0), (10.0, 10.0, 8.0), 40)


OUTSIDE = {
    "too long": ((40, 60, 48), 8.0, {"fov_extent"}, "384 mm along the body, not 310 to 330"),
    "thin slices": ((40, 60, 320), 1.0, {"spacing", "slice_count_shift"}, "1 mm along the body, not 8 to 8"),
    "too wide": ((52, 60, 40), 8.0, {"fov_extent"}, "260 mm left to right, not 200 to 220"),
    "twice as fine": ((42, 60, 86), 4.0, set(), ""),
}


@pytest.mark.parametrize(("shape", "edge", "codes", "said"), OUTSIDE.values(), ids=OUTSIDE)
def test_what_lies_otherwise_is_told_with_value_and_range(
    shape: tuple[int, int, int], edge: float, codes: set[str], said: str
) -> None:
    affine = np.diag([-5.0, 5, edge, 1])
    found = lying(shape, affine, RANGE)
    usual = lying(SHAPE, np.diag([-5.0, 5, 8, 1]), RANGE)
    judged = {code for code in found if found[code].severity == "warn" and usual[code].severity == "ok"}
    assert judged == codes
    if said:
        details = " ".join(flag.detail for flag in found.values())
        assert f"Outside the range of the 12 training scans: {said}" in details


@pytest.mark.parametrize(("code", "slack"), [("spacing", SAMPLING_SLACK), ("fov_extent", EXTENT_SLACK)])
def test_a_scan_may_lie_a_little_beyond(code: str, slack: float) -> None:
    anything = ((1.0, 1e6),) * 3
    fields = {"fov_extent": "extent_mm", "spacing": "spacing_mm"}
    bounds = dict.fromkeys(fields.values(), anything)
    bounds[fields[code]] = (anything[0], anything[1], (4.0, 4.0) if code == "spacing" else (160.0, 160.0))
    trained = replace(RANGE, **bounds)  # type: ignore[arg-type]
    for by, told in ((0.999 * slack, 0), (1.001 * slack, 1), (1.001 / slack, 0), (0.999 / slack, 1)):
        found = lying(SHAPE, np.diag([-5.0, 5, 4 * by, 1]), trained)
        assert found[code].severity == ("warn" if told else "ok")
        assert found[code].detail.count("Outside the range") == told


def test_without_a_range_or_an_affine_everything_is_as_before() -> None:
    affine = np.diag([-5.0, 5, 1, 1])
    scan = Volume(np.zeros((40, 60, 320), np.int16), affine=affine)
    assert "slice_count_shift" not in {flag.code for flag in QualityChecker(Contract())._acquisition_flags(scan)}
    assert "slice_count_shift" not in lying(SHAPE, None, RANGE)


def test_the_quality_report_of_a_file_measures_against_the_range(make_scan: MakeScan) -> None:
    path = make_scan()
    lie = AcquisitionGeometry.of(open_scan(path))
    assert lie is not None
    quality_report = QualityChecker(Contract(shape=(16, 12, 8), training_range=RANGE)).check(path)
    found = {flag.code: flag for flag in quality_report.flags}
    assert found["fov_extent"].detail.count("Outside the range") == 1
    assert found["slice_count_shift"].value == lie.slices
    allowed = QualityChecker(Contract(shape=(16, 12, 8), training_range=RANGE), ["slice_count_shift"]).check(path)
    assert {f.code: f.severity for f in allowed.flags}["slice_count_shift"] == "ok"
