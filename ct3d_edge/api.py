"""The whole as a library: what the commands do, with the same frozen settings, as functions.

Everything here is public; ``import ct3d_edge as ct`` gives it as ``ct.predict`` and so on, imported when first used.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ct3d_edge.contract import Contract
from ct3d_edge.inference.config import InferenceConfig, open_runner
from ct3d_edge.inference.model import open_model
from ct3d_edge.inference.prepare import ScanInput, ScanPath
from ct3d_edge.quality_control.check_registry import require_downgradable
from ct3d_edge.quality_control.checker import QualityChecker, QualityReport
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.session.verify import GoldenTestResult, run_golden_test

if TYPE_CHECKING:
    from ct3d_edge.contract import Activation
    from ct3d_edge.conversion.converter import Converter
    from ct3d_edge.conversion.graph_variant import CompileOptions
    from ct3d_edge.conversion.write_model import CompileResult
    from ct3d_edge.latency.record import BenchRecord

LOGGER = logging.getLogger(__name__)
DEFAULT = InferenceConfig()


def predict(scan: ScanInput, model: ScanPath | None = None, config: InferenceConfig = DEFAULT) -> ResultRecord:
    """Predict one scan with a model file; to predict more than one, open it once with ``load_model``.

    Parameters
    ----------
    scan
        Path, `Volume` or array of HU; see `Model.predict`.
    model
        A .onnx file; the one that comes with ct3d-edge if None.
    config
        Provider, options and checks.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        If there is no prediction; ``code`` and message as in a record.
    ModelError, ContractError, ProviderError
        If the model cannot be used, or not on this provider.
    """
    with open_model(_path(model), config) as opened:
        return opened.predict(scan)


def predict_many(
    scans: Iterable[ScanInput],
    model: ScanPath | None = None,
    config: InferenceConfig = DEFAULT,
    **settings: Any,
) -> Iterator[ResultRecord]:
    """Predict scans side by side; a record each, in their order, and never an error for what is wrong with a scan.

    ``settings`` are those of `Model.predict_many`: ``workers``, ``batch_size``, ``max_memory``, ``scan_timeout``.
    """
    with open_model(_path(model), config) as opened:
        yield from opened.predict_many(scans, **settings)


def check(
    scans: Iterable[ScanPath],
    contract: Contract | None = None,
    *,
    allow: Collection[str] = (),
    include_phi: bool = False,
) -> list[QualityReport]:
    """Check the quality of scans: whether a model may be run on each, and why not; no model is run.

    Parameters
    ----------
    scans
        Paths as `predict` takes them.
    contract
        Of the model (``model.contract``); the default one if None.
    allow
        Codes of checks that count one step less.
    include_phi
        Add the patient's name and ID.

    Raises
    ------
    UsageError
        A check that does not exist or cannot be downgraded.
    """
    checker = QualityChecker(contract or Contract(), require_downgradable(allow), include_phi=include_phi)
    return [checker.check(Path(scan)) for scan in scans]


def verify(model: ScanPath | None = None, config: InferenceConfig = DEFAULT) -> GoldenTestResult:
    """Rerun the golden test inside a model file, or inside the tuned file that runs in its place.

    Raises
    ------
    ModelError, ContractError, ProviderError
        If the model cannot be used, or not on this provider.
    """
    with open_runner(_path(model), config, stored_voxels=True) as runner:
        return run_golden_test(runner)


def export(
    model: Any,
    out: ScanPath,
    options: "CompileOptions | None" = None,
    *,
    labels: Sequence[str] | None = None,
    orientation: str | None = None,
    shape: tuple[int, int, int] | None = None,
    activation: "Activation | None" = None,
    parity_data: Path | None = None,
    calibration_data: Path | None = None,
    atol: float | None = None,
    embed_preprocessing: bool = False,
    converter: "Converter" = "tf2onnx",
) -> "CompileResult":
    """Convert a Keras model to a self-describing ONNX file, checked for parity before it is written.

    Parameters
    ----------
    model
        A Keras model, a .keras file, or the folder of a training run.
    out
        The file to write.
    options
        How the graph is rewritten and in which precision; `CompileOptions()` if None.
    labels, orientation, shape, activation
        Replace what the contract states, or what a network lacks; see `load_keras_source`.
    parity_data, calibration_data
        Folders of scans for the parity check and for calibration, none of them in both; phantoms if None.
    atol
        Largest difference of a probability; that of the precision if None.
    embed_preprocessing
        Put the preprocessing into the file: stored voxels in, probabilities out.
    converter
        ``"tf2onnx"``, or ``"direct"``: what Keras records of its layers is written; needs no tf2onnx.

    Raises
    ------
    CheckFailedError
        The file would predict otherwise than Keras; nothing is written.
    UsageError, ModelError, ContractError, MissingExtraError
        The model cannot be converted, or arguments do not fit.
    """
    from ct3d_edge.keras_backend import KERAS_MODULES, import_keras

    import_keras(KERAS_MODULES if converter == "direct" else None)
    from ct3d_edge.conversion.export import export_model
    from ct3d_edge.conversion.keras_loader import load_keras_source

    with _saved(model) as path:
        source = load_keras_source(path, labels=labels, orientation=orientation, size=shape, activation=activation)
        for message in source.messages:
            LOGGER.info("%s", message)
        data = _compile_arguments(
            source.contract, options, parity_data, calibration_data, atol, embed_preprocessing=embed_preprocessing
        )
        return export_model(source, Path(out), converter=converter, **data)


def optimize(
    model: ScanPath,
    out: ScanPath,
    options: "CompileOptions | None" = None,
    *,
    contract: Contract | None = None,
    parity_data: Path | None = None,
    calibration_data: Path | None = None,
    atol: float | None = None,
    embed_preprocessing: bool = False,
) -> "CompileResult":
    """Rewrite an ONNX file so that it runs faster or takes less memory; needs no Keras.

    Parameters are those of `export`; ``contract`` describes a file that brings none.

    Raises
    ------
    CheckFailedError
        The new file would predict otherwise; nothing is written.
    UsageError, ModelError, ContractError, MissingExtraError
        The file cannot be rewritten, or arguments do not fit.
    """
    from ct3d_edge.conversion.optimize import load_for_compiling, optimize_model

    loaded = load_for_compiling(Path(model), contract)
    if loaded.features is not None and not (options and options.gradcam_output):
        LOGGER.info("the output for Grad-CAM is left out: `gradcam_output=True` keeps it")
    data = _compile_arguments(
        loaded.contract, options, parity_data, calibration_data, atol, embed_preprocessing=embed_preprocessing
    )
    return optimize_model(loaded, Path(out), **data)


def bench(
    model: ScanPath | None = None,
    scans: Iterable[ScanPath] | None = None,
    *,
    runs: int = 30,
    config: InferenceConfig = DEFAULT,
) -> "BenchRecord":
    """Time one scan at a time from its file to its record, as ``predict`` takes it.

    Parameters
    ----------
    model
        A .onnx file; the one that comes with ct3d-edge if None.
    scans
        Files that are timed in turn; one phantom of 512 x 512 x 40 voxels if None.
    runs
        Counted runs, after the warm-up.

    Raises
    ------
    UsageError
        A scan that has no prediction.
    """
    from ct3d_edge.benchmark.scenarios import RunCount, measure_single
    from ct3d_edge.benchmark.workload import bench_scans
    from ct3d_edge.latency.measure import StopCriterion

    count = RunCount(runs, StopCriterion(None, None))
    with open_runner(_path(model), config) as runner, bench_scans(None) if scans is None else _given(scans) as paths:
        return measure_single(runner, paths, count, once={})


def _compile_arguments(
    contract: Contract,
    options: "CompileOptions | None",
    parity_data: Path | None,
    calibration_data: Path | None,
    atol: float | None,
    *,
    embed_preprocessing: bool,
) -> dict[str, Any]:
    """What `export_model` and `optimize_model` both take."""
    from ct3d_edge.conversion.graph_variant import CompileOptions
    from ct3d_edge.conversion.parity.parity_data import PhantomScans, load_calibration_data, load_parity_dataset
    from ct3d_edge.conversion.parity.provider_parity import find_working_providers

    options = options or CompileOptions()
    full = options.precision == "fp32"
    return {
        "dataset": load_parity_dataset(parity_data, contract, atol),
        "options": options,
        "calibration": None if full else load_calibration_data(calibration_data, parity_data, contract),
        "providers": find_working_providers(),
        "fused_io_scans": PhantomScans(contract) if embed_preprocessing else None,
    }


@contextmanager
def _saved(model: Any) -> Iterator[Path]:
    """The path of a Keras model; one in memory is saved as long as it is needed."""
    if isinstance(model, str | Path):
        yield Path(model)
        return
    with TemporaryDirectory(prefix="ct3d-export-") as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        yield path


@contextmanager
def _given(scans: Iterable[ScanPath]) -> Iterator[list[Path]]:
    yield [Path(scan) for scan in scans]


def _path(model: ScanPath | None) -> Path | None:
    return None if model is None else Path(model)
