"""A session on TensorRT: its engine is found, or built in full view, and nothing else is loaded."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ct3d_edge.errors import ProviderError
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers.nvidia import Gpu
from ct3d_edge.providers.tensorrt_engines import EngineKey, EngineStore, StoredEngine
from ct3d_edge.session.run_report import RuntimePlatform
from ct3d_edge.session.session import SessionConfig, open_session

LOGGER = logging.getLogger(__name__)

UNKNOWN_GPU = Gpu("unknown", (0, 0), None, None)


def make_engine_key(model: ModelFile, config: SessionConfig, batch: int, platform: RuntimePlatform) -> EngineKey:
    """What the engine of a model depends on; the number of the GPU is not part of it, its model is."""
    gpu = platform.gpu or UNKNOWN_GPU
    options = tuple((key, value) for key, value in config.options.as_dict().items() if key != "device_id")
    return EngineKey(
        model_sha256=model.sha256,
        shapes=((model.input_name, (batch, *model.contract.input_shape)),),
        options=options,
        versions=(*platform.versions, ("driver's CUDA", gpu.cuda)),
        gpu=(gpu.name, gpu.capability),
    )


def get_or_build_engine(
    store: EngineStore, key: EngineKey, make: Callable[[Path], None], *, build: bool
) -> tuple[StoredEngine, bool]:
    """The engine of a key, and whether it had to be built.

    Raises
    ------
    ProviderError
        If there is none and ``build`` is False, or its build failed.
    """
    found = store.find(key)
    if isinstance(found, StoredEngine):
        return found, False
    if not build:
        raise ProviderError(f"{found}; build it with: ct3d-edge build --provider tensorrt")
    LOGGER.info("building the TensorRT engine for %s; this takes minutes, and happens once (%s)", key.gpu[0], found)
    return store.build(key, make), True


def make_engine_builder(model: ModelFile, config: SessionConfig, batch: int, timing: Path) -> Callable[[Path], None]:
    """A function that lets TensorRT build the engine of a model into a folder."""

    def make(folder: Path) -> None:
        # A CUDA graph, which no engine depends on, would ask for buffers that are bound.
        building = with_engine_cache(config, folder, timing, trt_cuda_graph_enable="0")
        session = open_session(model.data, building)
        # A graph whose batch has no name is built for a shape only when it is first run with it.
        session.run(None, {model.input_name: np.zeros((batch, *model.contract.input_shape), np.float32)})

    return make


def with_engine_cache(config: SessionConfig, folder: Path, timing: Path, **more: str) -> SessionConfig:
    """The setup of a session that takes its engine from a folder, or leaves it there."""
    return replace(
        config,
        extra={
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(timing),
            **more,
        },
    )
