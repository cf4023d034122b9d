"""TensorRT is stood in for by a session on the CPU that reads and writes engines where TensorRT would."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest
from builders import MakeModel

from ct3d_edge.errors import ProviderError
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.providers.availability import get_provider
from ct3d_edge.providers.nvidia import Gpu
from ct3d_edge.providers.options import parse_options
from ct3d_edge.providers.tensorrt_engines import EngineStore
from ct3d_edge.session.provider_selection import SessionRequest, _open_tensorrt
from ct3d_edge.session.run_report import RuntimePlatform
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.session import SessionConfig, open_session
from ct3d_edge.session.tensorrt import make_engine_key

PLATFORM = RuntimePlatform(
    (("onnxruntime", "1.31.1"), ("tensorrt", "10.13.3")), Gpu("Made Up 9", (8, 6), "580.1", "13.0")
)
SETUP = SessionConfig(get_provider("tensorrt"), parse_options("tensorrt"), fixed_dimensions={"batch": 1})


class StandIn:
    """Opens sessions as ONNX Runtime does with TensorRT: an engine that is there is loaded, else one is written."""

    def __init__(self) -> None:
        self.builds = 0
        self.loads = 0
        self.trusts = True

    def __call__(self, model: bytes, config: SessionConfig) -> ort.InferenceSession:
        folder = Path(config.extra["trt_engine_cache_path"])
        assert config.extra["trt_engine_cache_enable"] == config.extra["trt_timing_cache_enable"] == "1"
        assert Path(config.extra["trt_timing_cache_path"]).is_dir()
        if self.trusts and (folder / "graph.engine").is_file():
            self.loads += 1
        else:
            self.builds += 1
            (folder / "graph.engine").write_bytes(b"engine %d" % self.builds)
        return open_session(
            model, replace(config, candidate=get_provider("cpu"), options=parse_options("cpu"), extra={})
        )


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    opener = StandIn()
    monkeypatch.setenv("CT3D_EDGE_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setattr("ct3d_edge.session.provider_selection.open_session", opener)
    monkeypatch.setattr("ct3d_edge.session.tensorrt.open_session", opener)
    return opener


@pytest.fixture
def model(make_model: MakeModel) -> ModelFile:
    return load_model_file(make_model())


def test_an_engine_is_built_once_with_a_message_and_then_found(
    stand_in: StandIn, model: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    asked = SessionRequest("tensorrt")
    _, first = _open_tensorrt(model, SETUP, PLATFORM, asked)
    _, second = _open_tensorrt(model, SETUP, PLATFORM, asked)
    assert (first.built, second.built, first.key) == (True, False, second.key)
    assert (stand_in.builds, stand_in.loads) == (1, 2)
    (sentence,) = caplog.messages
    assert sentence.startswith("building the TensorRT engine for Made Up 9; this takes minutes")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    "asked", [SessionRequest("tensorrt", build=False), SessionRequest("auto")], ids=["no-build", "auto"]
)
def test_nothing_is_built_in_passing_where_that_was_not_asked_for(model: ModelFile, asked: SessionRequest) -> None:
    with pytest.raises(ProviderError, match=r"no engine has been built .* ct3d-edge build --provider tensorrt"):
        _open_tensorrt(model, SETUP, PLATFORM, asked)
    _open_tensorrt(model, SETUP, PLATFORM, SessionRequest("tensorrt"))
    _, engine = _open_tensorrt(model, SETUP, PLATFORM, asked)
    assert not engine.built


def test_an_engine_that_was_changed_is_built_again_or_refused(stand_in: StandIn, model: ModelFile) -> None:
    _, engine = _open_tensorrt(model, SETUP, PLATFORM, SessionRequest("tensorrt"))
    (path,) = EngineStore().root.glob(f"*/{engine.key}/graph.engine")
    path.write_bytes(b"somebody else's")
    with pytest.raises(ProviderError, match="is not as it was built"):
        _open_tensorrt(model, SETUP, PLATFORM, SessionRequest("tensorrt", build=False))
    assert stand_in.loads == 1, "it was never loaded"
    _, again = _open_tensorrt(model, SETUP, PLATFORM, SessionRequest("tensorrt"))
    assert again.built
    assert path.read_bytes() == b"engine 2"


def test_a_session_that_builds_its_own_engine_is_refused(stand_in: StandIn, model: ModelFile) -> None:
    _open_tensorrt(model, SETUP, PLATFORM, SessionRequest("tensorrt"))
    stand_in.trusts = False
    with pytest.raises(ProviderError, match="did not take the engine"):
        _open_tensorrt(model, SETUP, PLATFORM, SessionRequest("tensorrt", build=False))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda config, platform: (replace(config, options=parse_options("tensorrt", device_id=1)), platform), True),
        (
            lambda config, platform: (
                replace(config, options=parse_options("tensorrt", ("trt_builder_optimization_level=5",))),
                platform,
            ),
            False,
        ),
        (lambda config, platform: (config, replace(platform, versions=(("tensorrt", "10.14.0"),))), False),
        (lambda config, platform: (config, replace(platform, gpu=Gpu("Made Up 9", (8, 6), "580.1", "13.1"))), False),
        (lambda config, platform: (config, replace(platform, gpu=None)), False),
    ],
    ids=["device number", "option", "version", "driver", "gpu"],
)
def test_the_key_follows_everything_but_the_number_of_the_gpu(
    model: ModelFile,
    change: Callable[[SessionConfig, RuntimePlatform], tuple[SessionConfig, RuntimePlatform]],
    same: bool,
) -> None:
    config, platform = change(SETUP, PLATFORM)
    key = make_engine_key(model, SETUP, 1, PLATFORM)
    assert (make_engine_key(model, config, 1, platform).digest == key.digest) is same
    assert make_engine_key(model, SETUP, 2, PLATFORM).digest != key.digest


@pytest.mark.parametrize("requested", ["tensorrt", "auto"])
def test_without_a_gpu_no_folder_is_made(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requested: str
) -> None:
    monkeypatch.setenv("CT3D_EDGE_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setattr("ct3d_edge.providers.nvidia.CUDA_DRIVER", str(tmp_path / "libcuda.so.1"))
    with Runner(load_model_file(make_model()), SessionRequest(requested, allow_fallback=True)) as runner:  # type: ignore[arg-type]
        assert runner.run_report.actual == "cpu"
    assert not (tmp_path / "engines").exists()
