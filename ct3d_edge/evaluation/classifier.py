"""Either kind of model behind one interface: a network input goes in, a probability for each class comes out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError, UsageError
from ct3d_edge.inference.config import InferenceConfig, open_runner

RUN_MODEL, RUN_CONTRACT, RUN_SPLIT = "model.keras", "contract.json", "split.json"
"""Files of a training run."""

CLASSES = 2


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model that is ready to predict.

    Parameters
    ----------
    path, sha256
        The file, and the hash of its bytes.
    contract
        Its input and output.
    run_by
        What computes it, in words.
    remarks
        Sentences about assumptions and skipped providers.
    predict
        From a network input ``(W, H, D)`` to ``(len(contract.labels),)`` probabilities under ``contract``.
    pooled
        The same with the pooled features ``(C,)`` before the probabilities; None if the network pools none.
    """

    path: Path
    sha256: str
    contract: Contract
    run_by: str
    remarks: tuple[str, ...]
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    pooled: Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.float64]]] | None = None


@contextmanager
def open_classifier(
    path: Path,
    config: InferenceConfig = InferenceConfig(),  # noqa: B008 - frozen
) -> Iterator[Classifier]:
    """Open a .onnx file as ``infer`` does, tuning included, or a .keras file or training run by Keras.

    Raises
    ------
    UsageError
        It is neither, or a provider is asked for that runs no Keras model.
    ModelError
        It cannot be used, or has more than two classes.
    ProviderError
        The provider cannot be used.
    MissingExtraError
        Keras is needed and not installed.
    """
    if path.suffix.lower() == ".onnx":
        with _open_onnx(path, config) as model:
            require_two_classes(model)
            yield model
    elif config.provider != "auto" or config.device_id is not None:
        raise UsageError(
            f"A provider runs .onnx files; {path} is computed by Keras. Leave out `provider` and `device_id`."
        )
    else:
        model = open_keras_classifier(path)
        require_two_classes(model)
        yield model


def open_keras_classifier(path: Path, *, temperature: float | None = None) -> Classifier:
    """Load a .keras file or training run.

    Parameters
    ----------
    temperature
        Instead of the contract's; None keeps that.

    Raises
    ------
    UsageError, ModelError, MissingExtraError
        As `open_classifier`.
    """
    if not path.exists():
        raise UsageError(f"The model {path} does not exist. Name a .keras file or the folder of a training run.")
    if not path.is_dir() and path.suffix != ".keras":
        raise UsageError(f"A model is a .onnx file, a .keras file or the folder of a training run; found {path}.")
    from ct3d_edge.keras_backend import import_keras

    import_keras()
    from ct3d_edge.conversion.extra_outputs.pooled_output import make_keras_pooled_fn
    from ct3d_edge.conversion.keras_loader import load_keras_source

    source = load_keras_source(path)
    if temperature is not None:
        source = replace(source, contract=replace(source.contract, temperature=temperature))
    return Classifier(
        path=source.path,
        sha256=source.sha256,
        contract=source.contract,
        run_by="Keras",
        remarks=source.messages,
        predict=source.probabilities,
        pooled=make_keras_pooled_fn(source),
    )


def run_of(path: Path) -> Path | None:
    """Folder of the training run that a model is, or is in; None if it is another file."""
    folder = path if path.is_dir() else path.parent
    inside = path.is_dir() or path.name == RUN_MODEL
    return folder if inside and (folder / RUN_MODEL).is_file() else None


@contextmanager
def _open_onnx(path: Path, config: InferenceConfig) -> Iterator[Classifier]:
    with open_runner(path, config) as runner:
        yield Classifier(
            path=runner.model.path,
            sha256=runner.model.sha256,
            contract=runner.contract,
            run_by=f"ONNX Runtime, {runner.run_report.describe()}",
            remarks=runner.run_report.notes(),
            predict=lambda volume: runner.infer(volume[None])[0],
        )


def require_two_classes(model: Classifier) -> None:
    """Refuse a model of more than two classes, with a `ModelError`."""
    if len(model.contract.labels) != CLASSES:
        raise ModelError(
            f"{model.path} has {len(model.contract.labels)} classes ({', '.join(model.contract.labels)}); "
            "sensitivity, specificity and a threshold belong to two. Only models of two classes can be evaluated."
        )


class FeatureExtractor:
    """Predicts as a model does, and collects the features that the network pools.

    Parameters
    ----------
    model
        Computed by Keras.
    """

    def __init__(self, model: Classifier) -> None:
        self._model = model
        self._rows: list[NDArray[np.float64]] = []

    def predict(self, volume: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Classifier`."""
        if self._model.pooled is None:
            return self._model.predict(volume)
        pooled, probabilities = self._model.pooled(volume)
        self._rows.append(pooled)
        return probabilities

    @property
    def features(self) -> NDArray[np.float64] | None:
        """``(N, C)``, a row a scan; None if the network pools none."""
        return np.stack(self._rows) if self._rows else None
