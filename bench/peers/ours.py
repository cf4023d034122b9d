"""ct3d-edge: a scan read and prepared by `preprocess`, a model file run by `Runner`."""

from collections.abc import Sequence
from pathlib import Path

from bench.fixture import Fixture
from bench.peers import Network, Preprocessing, Volumes

NEEDS = ("onnxruntime",)
MODELS = Path(__file__).parents[2] / "models"
PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal")


def network(
    fixture: Fixture,
    threads: int,
    *,
    file: str = "fast",
    provider: str = "cpu",
    provider_options: Sequence[str] = (),
    batch: int = 1,
    model: str | None = None,
) -> Network:
    """A session on one provider; it never falls back. ``model``: a file of models/, which gets a corner of a volume."""
    from ct3d_edge.modelfile.model_file import load_model_file
    from ct3d_edge.providers.options import parse_options
    from ct3d_edge.session.provider_selection import SessionRequest
    from ct3d_edge.session.runner import Runner

    options = parse_options(provider, tuple(provider_options))  # type: ignore[arg-type]
    source = load_model_file(MODELS / model if model else fixture.onnx(file))
    runner = Runner(source, SessionRequest(provider, threads=threads, options=options, batch=batch))  # type: ignore[arg-type]
    outputs = runner.contract.outputs
    width, height, depth = runner.contract.shape

    def run(volumes: Volumes) -> Volumes:
        return runner.infer(volumes[:, :width, :height, :depth])[:, -outputs:].astype("float32")

    return run


def preprocessing(fixture: Fixture, threads: int) -> Preprocessing:  # noqa: ARG001 - one thread decodes
    """A file to the network's input as every command of this project does it."""
    from ct3d_edge.modelfile.model_file import load_model_file
    from ct3d_edge.preprocessing import preprocess
    from ct3d_edge.scan.loader import open_scan

    contract = load_model_file(fixture.onnx("fast")).contract

    def prepare(path: Path) -> Volumes:
        return preprocess(open_scan(path), contract).volume

    return prepare
