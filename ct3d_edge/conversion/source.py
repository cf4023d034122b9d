"""The Keras model to be exported: where it lies, what its network takes and gives, which contract it gets."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from ct3d_edge.contract import Activation, Channels, Contract
from ct3d_edge.errors import ContractError, ModelError, UsageError

SPATIAL_AXES = 3


@dataclass(frozen=True, eq=False)
class Source:
    """A Keras network and what is known about it.

    Parameters
    ----------
    path, sha256
        The .keras file and the hash of its bytes.
    network
        One volume in, one vector out.
    contract
        What the network expects and answers.
    remarks
        Sentences about what was assumed, for the user to read.
    """

    path: Path
    sha256: str
    network: keras.Model
    contract: Contract
    remarks: tuple[str, ...]


def load_source(
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    orientation: str | None = None,
    size: tuple[int, int, int] | None = None,
) -> Source:
    """Load a training run (a folder with model.keras and contract.json) or a bare .keras file.

    Parameters
    ----------
    path
        The folder or file.
    labels, orientation
        Replace what the contract says; None keeps it.
    size
        ``(W, H, D)`` for a network that leaves its input size open.

    Raises
    ------
    UsageError
        The path does not exist or is not a .keras file.
    ModelError
        Keras cannot load it, or the network is not one volume in, one vector out.
    ContractError
        The contract does not fit the network.
    """
    file, contract_file = _locate(path)
    network = _load(file)
    own = _own_contract(file, network, size)
    if contract_file is None:
        remarks = [_default_remark(file, own, labels)]
        contract = own
    else:
        remarks = []
        contract = _matching(Contract.from_json(contract_file.read_text()), own, contract_file)
    changes: dict[str, Any] = {"labels": tuple(labels) if labels else None, "orientation": orientation}
    contract = replace(contract, **{name: value for name, value in changes.items() if value is not None})
    return Source(file, hashlib.sha256(file.read_bytes()).hexdigest(), network, contract, tuple(remarks))


def _locate(path: Path) -> tuple[Path, Path | None]:
    """The .keras file and, if there is one, the contract beside it."""
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"There is no Keras model {file}.")
    if file.suffix != ".keras":
        raise UsageError(f"{file} is not a .keras file. In Keras: model.save('model.keras'), then export that.")
    contract = file.with_name("contract.json")
    return file, contract if contract.is_file() else None


def _load(file: Path) -> keras.Model:
    if keras.backend.backend() != "tensorflow":
        raise ModelError(f"tf2onnx needs Keras on TensorFlow, found KERAS_BACKEND={keras.backend.backend()}.")
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras, zipfile and h5py raise whatever they like for a damaged or unknown file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"Keras cannot load {file}: {reason}") from error


def _own_contract(file: Path, network: keras.Model, size: tuple[int, int, int] | None) -> Contract:
    """The default contract with what can be read off the network itself."""
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ModelError(
            f"{file} has {len(network.inputs)} inputs and {len(network.outputs)} outputs; "
            "one volume in and one vector out can be exported."
        )
    shape, channels = _input_layout(file, tuple(network.inputs[0].shape[1:]), size)
    output = tuple(network.outputs[0].shape[1:])
    if len(output) != 1 or output[0] is None:
        raise ModelError(f"{file} answers with shape ('batch', {output}); a vector of classes can be exported.")
    outputs = int(output[0])
    return Contract(
        shape=shape,
        channels=channels,
        outputs=outputs,
        labels=Contract.labels if outputs <= 2 else tuple(f"class {n}" for n in range(outputs)),
        activation=_missing_activation(file, network, outputs),
    )


def _input_layout(
    file: Path, shape: tuple[int | None, ...], size: tuple[int, int, int] | None
) -> tuple[tuple[int, int, int], Channels]:
    layouts: list[tuple[Channels, slice]] = []
    if len(shape) == SPATIAL_AXES:
        layouts.append(("none", slice(0, 3)))
    if len(shape) == SPATIAL_AXES + 1 and shape[-1] == 1:
        layouts.append(("last", slice(0, 3)))
    elif len(shape) == SPATIAL_AXES + 1 and shape[0] == 1:
        layouts.append(("first", slice(1, 4)))
    if not layouts:
        raise ModelError(f"{file} takes an input of shape {shape}; one volume with one channel can be exported.")
    channels, axes = layouts[0]
    found = shape[axes]
    wanted = size or found
    if any(n is not None and n != m for n, m in zip(found, wanted, strict=True)):
        raise UsageError(f"{file} takes volumes of {found}, not of {wanted}. Leave out --size.")
    if any(n is None for n in wanted):
        raise UsageError(f"{file} leaves its input size open {found}. Say which: --size 128 128 64")
    w, h, d = (int(n) for n in wanted if n is not None)
    return (w, h, d), channels


def _missing_activation(file: Path, network: keras.Model, outputs: int) -> Activation:
    """What turns the output into probabilities: nothing if the last layer does it, else what fits its length."""
    last = getattr(network.layers[-1], "activation", None)
    name = getattr(last, "__name__", type(network.layers[-1]).__name__.lower())
    if name == "sigmoid" and outputs > 1:
        raise ModelError(
            f"{file} ends in {outputs} independent sigmoids (several labels at once). One label a scan can be exported."
        )
    if name in ("sigmoid", "softmax"):
        return "identity"
    if name == "linear":
        return "sigmoid" if outputs == 1 else "softmax"
    raise ModelError(f"{file} ends in '{name}'; a sigmoid, a softmax or plain logits can be exported.")


def _default_remark(file: Path, contract: Contract, labels: Sequence[str] | None) -> str:
    named = "" if labels else f" and the class names {', '.join(contract.labels)} (name them with --labels)"
    low, high = contract.hu_window
    return (
        f"{file.name} came without a contract: it gets the default one (HU {low:g} to {high:g}, orientation "
        f"{contract.orientation}, a quarter turn) with its own input size {'x'.join(map(str, contract.shape))}{named}."
    )


def _matching(contract: Contract, own: Contract, path: Path) -> Contract:
    for name in ("shape", "channels", "outputs", "activation"):
        if getattr(contract, name) != getattr(own, name):
            raise ContractError(
                f"{path} says {name} = {getattr(contract, name)!r}, but the network beside it has "
                f"{getattr(own, name)!r}. They do not belong together."
            )
    return contract
