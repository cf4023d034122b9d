"""TensorRT is stood in for by a session on the CPU that reads and writes engines where TensorRT would."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest
from builders import MakeModel

from ct3d_edge.errors import ProviderError
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.providers.availability import provider
from ct3d_edge.providers.nvidia import Gpu
from ct3d_edge.providers.options import parse_options
from ct3d_edge.providers.tensorrt_engines import EngineStore
from ct3d_edge.providers.versions import Platform
from ct3d_edge.session.provider_selection import Wish, _open_tensorrt
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.session import Setup, open_session
from ct3d_edge.session.tensorrt import engine_key

PLATFORM = Platform((("onnxruntime", "1.31.1"), ("tensorrt", "10.13.3")), Gpu("Made Up 9", (8, 6), "580.1", "13.0"))
SETUP = Setup(provider("tensorrt"), parse_options("tensorrt"), fixed={"batch": 1})


class StandIn:
    """Opens sessions as ONNX Runtime does with TensorRT: an engine that is there is loaded, else one is written."""

    def __init__(self) -> None:
        self.builds = 0
        self.loads = 0
        self.trusts = True

    def __call__(self, model: bytes, setup: Setup) -> ort.InferenceSession:
        folder = Path(setup.extra["trt_engine_cache_path"])
        assert setup.extra["trt_engine_cache_enable"] == setup.extra["trt_timing_cache_enable"] == "1"
        assert Path(setup.extra["trt_timing_cache_path"]).is_dir()
        if self.trusts and (folder / "graph.engine").is_file():
            self.loads += 1
        else:
            self.builds += 1
            (folder / "graph.engine").write_bytes(b"engine %d" % self.builds)
        return open_session(model, replace(setup, candidate=provider("cpu"), options=parse_options("cpu"), extra={}))


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


def test_an_engine_is_built_once_with_a_word_and_then_found(stand_in: StandIn, model: ModelFile) -> None:
    said: list[str] = []
    wish = Wish("tensorrt", on_build=said.append)
    _, first = _open_tensorrt(model, SETUP, PLATFORM, wish)
    _, second = _open_tensorrt(model, SETUP, PLATFORM, wish)
    assert (first.built, second.built, first.key) == (True, False, second.key)
    assert (stand_in.builds, stand_in.loads) == (1, 2)
    (sentence,) = said
    assert sentence.startswith("building the TensorRT engine for Made Up 9; this takes minutes")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("wish", [Wish("tensorrt", build=False), Wish("auto")], ids=["no-build", "auto"])
def test_nothing_is_built_in_passing_where_that_was_not_asked_for(model: ModelFile, wish: Wish) -> None:
    with pytest.raises(ProviderError, match=r"no engine has been built .* ct3d-edge build --provider tensorrt"):
        _open_tensorrt(model, SETUP, PLATFORM, wish)
    _open_tensorrt(model, SETUP, PLATFORM, Wish("tensorrt"))
    _, engine = _open_tensorrt(model, SETUP, PLATFORM, wish)
    assert not engine.built


def test_an_engine_that_was_changed_is_built_again_or_refused(stand_in: StandIn, model: ModelFile) -> None:
    _, engine = _open_tensorrt(model, SETUP, PLATFORM, Wish("tensorrt"))
    (path,) = EngineStore().root.glob(f"*/{engine.key}/graph.engine")
    path.write_bytes(b"somebody else's")
    with pytest.raises(ProviderError, match="is not as it was built"):
        _open_tensorrt(model, SETUP, PLATFORM, Wish("tensorrt", build=False))
    assert stand_in.loads == 1, "it was never loaded"
    _, again = _open_tensorrt(model, SETUP, PLATFORM, Wish("tensorrt"))
    assert again.built
    assert path.read_bytes() == b"engine 2"


def test_a_session_that_builds_its_own_engine_is_refused(stand_in: StandIn, model: ModelFile) -> None:
    _open_tensorrt(model, SETUP, PLATFORM, Wish("tensorrt"))
    stand_in.trusts = False
    with pytest.raises(ProviderError, match="did not take the engine"):
        _open_tensorrt(model, SETUP, PLATFORM, Wish("tensorrt", build=False))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda setup, platform: (replace(setup, options=parse_options("tensorrt", device_id=1)), platform), True),
        (
            lambda setup, platform: (
                replace(setup, options=parse_options("tensorrt", ("trt_builder_optimization_level=5",))),
                platform,
            ),
            False,
        ),
        (lambda setup, platform: (setup, replace(platform, versions=(("tensorrt", "10.14.0"),))), False),
        (lambda setup, platform: (setup, replace(platform, gpu=Gpu("Made Up 9", (8, 6), "580.1", "13.1"))), False),
        (lambda setup, platform: (setup, replace(platform, gpu=None)), False),
    ],
    ids=["device number", "option", "version", "driver", "gpu"],
)
def test_the_key_follows_everything_but_the_number_of_the_gpu(
    model: ModelFile, change: Callable[[Setup, Platform], tuple[Setup, Platform]], same: bool
) -> None:
    setup, platform = change(SETUP, PLATFORM)
    key = engine_key(model, SETUP, 1, PLATFORM)
    assert (engine_key(model, setup, 1, platform).digest == key.digest) is same
    assert engine_key(model, SETUP, 2, PLATFORM).digest != key.digest


@pytest.mark.parametrize("requested", ["tensorrt", "auto"])
def test_without_a_gpu_no_folder_is_made(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requested: str
) -> None:
    monkeypatch.setenv("CT3D_EDGE_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setattr("ct3d_edge.providers.nvidia.DRIVER", str(tmp_path / "libcuda.so.1"))
    with Runner(load_model_file(make_model()), requested, allow_fallback=True) as runner:  # type: ignore[arg-type]
        assert runner.receipt.actual == "cpu"
    assert not (tmp_path / "engines").exists()
