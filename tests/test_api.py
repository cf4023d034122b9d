"""The functions of the library, with real files; what they are built of has its own tests."""

from pathlib import Path

import numpy as np
import pytest
from builders import ANY_SCAN, MakeModel, MakeScan

import ct3d_edge as ct
from ct3d_edge import api
from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan


def test_predict_gives_the_record_of_an_open_model(make_model: MakeModel, make_scan: MakeScan) -> None:
    model, scan = make_model(), make_scan()
    with ct.load_model(model, "cpu", allow=ANY_SCAN.allow) as opened:
        expected = opened.predict(scan)
    record = ct.predict(scan, model, ANY_SCAN)
    assert record.prediction is not None
    assert record.prediction == expected.prediction
    assert [each.prediction for each in ct.predict_many([scan, scan], model, ANY_SCAN)] == [expected.prediction] * 2


def test_check_says_why_a_model_may_not_be_run(make_scan: MakeScan) -> None:
    (report,) = ct.check([make_scan(voxels=np.full((24, 20, 12), 300, np.int16))])
    assert report.status == "refused"
    assert {flag.code for flag in report.flags if flag.severity == "refuse"} >= {"intensity_not_hu"}


def test_verify_reruns_the_golden_test(make_model: MakeModel) -> None:
    assert not ct.verify(make_model(tolerance=1e-6), ct.InferenceConfig("cpu")).passed
    assert ct.verify(config=ct.InferenceConfig("cpu")).passed


def test_bench_times_the_scans_given(make_model: MakeModel, tmp_path: Path) -> None:
    scan = tmp_path / "chest.nii.gz"
    save_scan(make_phantom(3, abnormal=False, shape=(128, 128, 32)), scan)
    record = ct.bench(make_model(), [scan], runs=3, config=ct.InferenceConfig("cpu"))
    assert len(record.samples.total) == 3
    assert record.conditions["scans"] == ["chest.nii.gz"]


@pytest.mark.slow
def test_a_keras_model_in_memory_is_exported_and_optimised(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    from networks import SHAPE, tiny_network

    network = tiny_network()
    volume = np.random.default_rng(0).random((1, *SHAPE, 1), np.float32)
    result = ct.export(network, tmp_path / "a.onnx", ct.CompileOptions("exact"))
    assert result.model.path == tmp_path / "a.onnx"
    small = ct.optimize(tmp_path / "a.onnx", tmp_path / "b.onnx", ct.CompileOptions("fast"))
    from ct3d_edge.session.runner import Runner

    with Runner(result.model) as exact, Runner(small.model) as fast:
        expected = np.asarray(network(volume)).ravel()
        for runner in (exact, fast):
            assert runner.infer(volume[..., 0])[0, -1] == pytest.approx(expected[-1], abs=1e-5)


def test_the_page_of_the_api_is_current() -> None:
    import importlib.util

    pytest.importorskip("keras")
    path = Path(__file__).parents[1] / "tools" / "make_api.py"
    spec = importlib.util.spec_from_file_location("make_api", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (path.parents[1] / "docs" / "api.md").read_text() == module.page(), "run: python tools/make_api.py"
    listed = {name for names in module.GROUPS.values() for name in names}
    assert listed | {name for name in ct.__all__ if name.endswith("Error")} | {"__version__"} == set(ct.__all__)


def test_every_public_function_of_the_module_is_a_public_name() -> None:
    functions = {name for name, thing in vars(api).items() if getattr(thing, "__module__", "") == api.__name__}
    assert {name for name in functions if not name.startswith("_")} <= set(ct.__all__)
