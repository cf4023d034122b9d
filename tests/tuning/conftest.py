"""Tiny models, eight inputs that they tell apart, and a choice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import MakeModel
from networks import SHAPE
from numpy.typing import NDArray

from ct3d_edge.conversion.parity.parity_data import CalibrationData
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.tuning.cache import tuning_result_path
from ct3d_edge.tuning.candidate import Candidate, CandidateResult
from ct3d_edge.tuning.result import TuningResult, tuning_key

MakeChoice = Callable[..., TuningResult]


@pytest.fixture
def volumes() -> list[NDArray[np.float32]]:
    """Eight network inputs that differ."""
    rng = np.random.default_rng(5)
    return [rng.random(SHAPE, np.float32) * level for level in np.linspace(0.1, 1, 8, dtype=np.float32)]


@pytest.fixture
def calibration() -> CalibrationData:
    """Eight network inputs that no proof uses."""
    rng = np.random.default_rng(99)
    return CalibrationData([rng.random(SHAPE, np.float32) for _ in range(8)], "eight of noise")


@pytest.fixture
def given(make_model: MakeModel) -> ModelFile:
    """The model that is tuned."""
    return load_model_file(make_model("model.onnx"))


@pytest.fixture
def wrong(given: ModelFile) -> ModelFile:
    """One whose head has other weights."""
    proto = onnx.ModelProto.FromString(given.data)
    (head,) = [tensor for tensor in proto.graph.initializer if tensor.name == "head"]
    head.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(head) * np.float32(1.01), "head"))
    path = given.path.with_name("wrong.onnx")
    path.write_bytes(proto.SerializeToString())
    return load_model_file(path)


@pytest.fixture
def make_choice() -> MakeChoice:
    """Write a choice beside a model: ``make_choice(path, threads=1, options=(), file=None)``."""

    def make(
        model: Path, threads: int = 1, options: tuple[tuple[str, str], ...] = (), file_sha256: str | None = None
    ) -> TuningResult:
        key = tuning_key(load_model_file(model).sha256, "cpu")
        results = (
            CandidateResult(Candidate("none", 2), None, 0.0, 2000, (3.0, 2.5)),
            CandidateResult(
                Candidate("none" if file_sha256 is None else "fast", threads, options), None, 1e-7, 1000, (1.0, 2.0)
            ),
            CandidateResult(Candidate("small", 1), "the proof fails", None, None),
        )
        choice = TuningResult(
            key,
            "2030-01-01T00:00:00+00:00",
            file_sha256 or key.model_sha256,
            1,
            0,
            None,
            "eight",
            {"fp32": 1e-5},
            results,
        )
        tuning_result_path(model).write_text(choice.to_json())
        return choice

    return make
