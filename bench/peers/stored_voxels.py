"""ct3d-edge with the preprocessing inside the model file: a scan's stored numbers go in as they lie in the file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.fixture import Fixture
from bench.peers import Network

NEEDS = ("onnxruntime",)
PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "isal")


def network(
    fixture: Fixture,
    threads: int,
    *,
    file: str = "voxels",
    provider: str = "cpu",
    provider_options: Sequence[str] = (),
) -> Network:
    """Takes ``(1, D, H, W)`` int16, which are HU; there is no batch of scans of several sizes."""
    from ct3d_edge.modelfile.model_file import load_model_file
    from ct3d_edge.providers.options import parse_options
    from ct3d_edge.session.provider_selection import SessionRequest
    from ct3d_edge.session.runner import Runner

    options = parse_options(provider, tuple(provider_options))  # type: ignore[arg-type]
    model = load_model_file(fixture.onnx(file), stored_voxels=True)
    runner = Runner(model, SessionRequest(provider, threads=threads, options=options))  # type: ignore[arg-type]
    outputs = runner.contract.outputs
    return lambda voxels: runner.infer_stored(voxels[0], 1, 0)[-outputs:].astype("float32")


def preprocessing(fixture: Fixture, threads: int) -> Callable[[Path], Any]:  # noqa: ARG001 - one thread decodes
    """Reading alone; refuses a scan whose numbers are no HU, because a slope has no place in this contest."""
    import numpy as np

    from ct3d_edge.scan.nifti import read_nifti

    def read(path: Path) -> Any:
        scan = read_nifti(path)
        if (scan.slope, scan.intercept) != (1, 0):
            raise RuntimeError(f"{path.name} holds numbers that are not HU")
        return np.ascontiguousarray(scan.stored.T)

    return read
