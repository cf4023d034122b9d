"""The open model: side by side for several requests, all cores for one; memory is released at the end."""

import logging

import numpy as np
import pytest
from builders import ANY_SCAN, MakeModel, MakeScan

from ct3d_edge.errors import ProviderError, UsageError
from ct3d_edge.serving.served_model import ScanModel, default_model_name, open_served_model
from ct3d_edge.system.machine import count_usable_cores

from .conftest import without_times


def test_a_single_request_has_all_cores_and_the_same_record(make_model: MakeModel, make_scan: MakeScan) -> None:
    cores = count_usable_cores()
    if cores < 2:
        pytest.skip("needs two cores")
    scan = make_scan()
    with open_served_model(make_model(), ANY_SCAN, workers=cores) as served:
        assert isinstance(served, ScanModel)
        assert (served.workers, served.schedule.threads) == (cores, 1)
        assert served._choose_model(True).run_report.threads == cores
        assert served._choose_model(False).run_report.threads == 1
        records = [served.predict_scan(scan, 60, alone=alone).record.to_dict() for alone in (True, False)]
        assert without_times(records[0]) == without_times(records[1])
        volume = {"volume": np.zeros((2, 16, 12, 8, 1), np.float32)}
        both = [served.predict_tensors(volume, alone=alone)["probabilities"] for alone in (True, False)]
        np.testing.assert_allclose(both[0], both[1], atol=1e-6)
    for alone in (True, False):
        with pytest.raises(UsageError, match="was closed"):
            served.predict_scan(scan, 60, alone=alone)


def test_one_worker_has_all_cores_and_no_second_session(make_model: MakeModel) -> None:
    with open_served_model(make_model(), ANY_SCAN, workers=1) as served:
        assert isinstance(served, ScanModel)
        assert served._choose_model(True) is served._choose_model(False)


def test_a_session_that_fails_is_unhealthy_until_it_works_again(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = {"volume": np.zeros((1, 16, 12, 8, 1), np.float32)}
    with open_served_model(make_model(), ANY_SCAN, workers=1) as served:
        assert isinstance(served, ScanModel)
        served._choose_model(True).runner.close()
        with pytest.raises((ProviderError, UsageError)):
            served.predict_tensors(volume)
        with pytest.raises(ProviderError), served.watched_session():
            raise ProviderError("out of memory")
        assert served.failure == "out of memory"
        with served.watched_session():
            pass
        assert served.failure is None


def test_a_replaced_file_is_logged_once(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    path = make_model("served.onnx")
    with open_served_model(path, ANY_SCAN, workers=1) as served, caplog.at_level(logging.WARNING):
        served.log_replacement()
        assert caplog.messages == []
        make_model("other.onnx").replace(path)
        served.log_replacement()
        served.log_replacement()
        (message,) = caplog.messages
        assert "served.onnx was replaced; this server goes on" in message
        assert served.file.sha256[:16] in message


def test_the_name_is_that_of_the_file_or_of_its_folder_in_a_repository(make_model: MakeModel) -> None:
    path = make_model("lung.onnx")
    assert default_model_name(path) == "lung"
    for folder, name in (("chest/1", "chest"), ("chest/v1", "model")):
        (path.parent / folder).mkdir(parents=True)
        assert default_model_name(path.parent / folder / "model.onnx") == name
