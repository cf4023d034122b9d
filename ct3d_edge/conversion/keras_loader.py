"""The Keras model to be exported, loaded from its file."""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct3d_edge.contract import Activation, Contract
from ct3d_edge.conversion.keras_introspection import KerasInterface, inspect_interface
from ct3d_edge.errors import ContractError, ModelError, UsageError
from ct3d_edge.keras_backend import graph_if_equal, keras_reason, require_graph_mode
from ct3d_edge.temperature_scaling import to_probabilities

RUN_MODEL_NAME = "model.keras"
"""Model of a training run; only beside a file of this name is contract.json its contract."""


@dataclass(frozen=True, eq=False)
class KerasSource:
    """A Keras network with its contract.

    Parameters
    ----------
    path, sha256
        The .keras file and the hash of its bytes.
    network
        A network from one volume to one vector.
    contract
        Its input and output.
    messages
        Sentences for the user about assumptions.
    """

    path: Path
    sha256: str
    network: keras.Model
    contract: Contract
    messages: tuple[str, ...]

    @cached_property
    def _forward(self) -> Callable[[Any], Any]:
        return graph_if_equal(self.network, (1, *self.contract.input_shape))

    def probabilities(self, volume: NDArray[np.float32]) -> NDArray[np.float64]:
        """``(len(contract.labels),)`` probabilities of one network input ``contract.shape``, by Keras."""
        batch = volume.reshape(1, *self.contract.input_shape)
        return self.postprocess(keras.ops.convert_to_numpy(self._forward(batch)))

    def postprocess(self, output: ArrayLike) -> NDArray[np.float64]:
        """The same from the network's output ``(1, contract.outputs)``."""
        return np.asarray(to_probabilities(np.asarray(output, np.float32), self.contract)[0])


def load_keras_source(
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    orientation: str | None = None,
    size: tuple[int, int, int] | None = None,
    activation: Activation | None = None,
) -> KerasSource:
    """Load a training run (a folder with model.keras and contract.json) or a bare .keras file.

    Parameters
    ----------
    path
        The folder, its model.keras, or any other .keras file.
    labels, orientation
        Replace what the contract says; None keeps it.
    size
        ``(W, H, D)`` for a network that leaves its input size open.
    activation
        Activation that turns its output into probabilities; None to derive it from the network.

    Raises
    ------
    UsageError
        The path does not exist, is not a .keras file, or an option fits neither contract nor network.
    ModelError
        Keras cannot load it, or the network does not map one volume to one vector.
    ContractError
        The contract does not fit the network.
    """
    file, contract_file = _locate_files(path)
    network, precision_note = _load(file)
    own = _default_contract(inspect_interface(file, network, size=size, activation=activation))
    contract = (
        own if contract_file is None else _require_matching_contract(_read_contract(contract_file), own, contract_file)
    )
    message = _default_remark(file, own, labels) if contract_file is None else f"The contract is {contract_file}."
    contract = _override_contract(contract, labels, orientation)
    graph_note = require_graph_mode(network) if _has_leaky_relu(network) else None
    messages = tuple(note for note in (message, precision_note, graph_note) if note)
    return KerasSource(file, hashlib.sha256(file.read_bytes()).hexdigest(), network, contract, messages)


def _has_leaky_relu(network: keras.Model) -> bool:
    """Whether graph mode, which other programs use, is known to lose something of a layer; here eager mode is used."""
    leaky = keras.activations.leaky_relu
    return any(
        getattr(layer, "negative_slope", 0) or getattr(layer, "activation", None) is leaky or _is_leaky_submodel(layer)
        for layer in network.layers
    )


def _is_leaky_submodel(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Model) and _has_leaky_relu(layer)


def _locate_files(path: Path) -> tuple[Path, Path | None]:
    """The .keras file and, if it is a training run's, the contract that lies beside it."""
    file = path / RUN_MODEL_NAME if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"There is no Keras model {file}.")
    if file.suffix != ".keras":
        raise UsageError(f"{file} is not a .keras file. In Keras: model.save('model.keras'), then export that.")
    contract = file.with_name("contract.json")
    return file, contract if file.name == RUN_MODEL_NAME and contract.is_file() else None


def _load(file: Path) -> tuple[keras.Model, str | None]:
    """The network in float32, and a remark where its layers were to compute in fewer bits."""
    try:
        with zipfile.ZipFile(file) as archive:
            settings = json.loads(archive.read("config.json"))
        reduced = sorted(_reduced_policies(settings))
        if not reduced:
            return keras.saving.load_model(file, compile=False, safe_mode=True), None
        network = _load_with_settings(file, _with_float32(settings))
    except Exception as error:  # Keras, zipfile and h5py raise whatever they like for a damaged or unknown file
        raise ModelError(f"Keras cannot load {file}: {keras_reason(error)}") from error
    return network, f"Its layers compute in {' and '.join(reduced)}; exported, they compute in float32."


def _load_with_settings(file: Path, settings: Any) -> keras.Model:
    """Load a copy of the file with other settings, so that Keras itself restores the state of every layer."""
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder, file.name)
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(changed, "w") as copy:
            for name in archive.namelist():
                copy.writestr(name, json.dumps(settings) if name == "config.json" else archive.read(name))
        return keras.saving.load_model(changed, compile=False, safe_mode=True)


_REDUCED = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
REDUCED_POLICIES = {"dtype": _REDUCED, "name": _REDUCED}
"""Entries of settings: files are made from float32, and put into fewer bits afterwards, under a parity check."""


def _reduced_policies(settings: Any) -> set[str]:
    """Names of policies and types in the settings of a network, at any depth."""
    if isinstance(settings, dict):
        return set().union(
            *({value} if _is_reduced(name, value) else _reduced_policies(value) for name, value in settings.items())
        )
    return set().union(*map(_reduced_policies, settings)) if isinstance(settings, list | tuple) else set()


def _with_float32(settings: Any) -> Any:
    """The settings with float32 in place of policies and types of fewer bits."""
    if isinstance(settings, dict):
        return {
            name: "float32" if _is_reduced(name, value) else _with_float32(value) for name, value in settings.items()
        }
    return [_with_float32(value) for value in settings] if isinstance(settings, list | tuple) else settings


def _is_reduced(name: str, value: Any) -> bool:
    """Whether an entry is a type (``"dtype": "float16"``), or the name of a policy, of fewer bits."""
    return isinstance(value, str) and value in REDUCED_POLICIES.get(name, ())


def _read_contract(file: Path) -> Contract:
    try:
        return Contract.from_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"The contract {file} cannot be read: {error}.") from error


def _default_contract(interface: KerasInterface) -> Contract:
    return Contract(
        shape=interface.shape,
        channels=interface.channels,
        outputs=interface.outputs,
        labels=Contract.labels if interface.outputs <= 2 else tuple(f"class {n}" for n in range(interface.outputs)),
        activation=interface.activation,
    )


def _override_contract(contract: Contract, labels: Sequence[str] | None, orientation: str | None) -> Contract:
    try:
        return replace(
            contract,
            labels=tuple(labels) if labels else contract.labels,
            orientation=orientation or contract.orientation,
        )
    except ContractError as error:  # what was asked for, not what was found
        raise UsageError(str(error)) from error


def _default_remark(file: Path, contract: Contract, labels: Sequence[str] | None) -> str:
    named = "" if labels else f" and the class names {', '.join(contract.labels)} (name them with `labels=`)"
    low, high = contract.hu_window
    return (
        f"{file.name} came without a contract: it gets the default one (HU {low:g} to {high:g}, orientation "
        f"{contract.orientation}, a quarter turn) with its own input size {'x'.join(map(str, contract.shape))}{named}."
    )


def _require_matching_contract(contract: Contract, own: Contract, path: Path) -> Contract:
    for name in ("shape", "channels", "outputs", "activation"):
        if getattr(contract, name) != getattr(own, name):
            raise ContractError(
                f"{path} says {name} = {getattr(contract, name)!r}, but the network beside it has "
                f"{getattr(own, name)!r}. They do not belong together."
            )
    return contract
