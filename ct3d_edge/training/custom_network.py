"""A network from a Keras function in a file of the user's own, checked before hours of training depend on it."""

import hashlib
import runpy
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras

from ct3d_edge.errors import UsageError
from ct3d_edge.keras_backend import keras_reason

SIGNATURE = "(width, height, depth) -> keras.Model"


@dataclass(frozen=True)
class CustomNetwork:
    """A Keras function ``(width, height, depth) -> keras.Model``, called with the input size in voxels.

    Its model is functional or sequential, of layers that Keras itself has: other programs load the trained file. It
    takes ``(N, width, height, depth, 1)`` float32 in [0, 1] and returns ``(N, 1)`` float32 from a sigmoid, the
    probability of the second of two classes. Batch normalisation gets the preset's momentum.

    Parameters
    ----------
    name
        ``FILE.py:function``.
    function
        The function.
    sha256
        Hash of the file.
    """

    name: str
    function: Callable[[int, int, int], keras.Model]
    sha256: str

    @classmethod
    def load(cls, name: str) -> Self:
        """Import ``FILE.py:function``; the file runs with the rights of this process.

        Raises
        ------
        UsageError
            There is no such file or function, or importing the file fails.
        """
        path, _, attribute = name.rpartition(":")
        file = Path(path)
        if not file.is_file():
            raise UsageError(f"There is no file {file}, from which the network {name} was to be built.")
        try:
            # Not by an import, which may take compiled code of an earlier version of the file.
            members = runpy.run_path(str(file), run_name=file.stem)
        except (Exception, SystemExit) as error:  # whatever the user's file raises
            raise UsageError(f"{file} cannot be imported: {_describe_error(error, file)}.") from error
        if not callable(members.get(attribute)):
            functions = [found for found, member in members.items() if _is_own_function(member, file)]
            known = f"it has {', '.join(functions)}" if functions else "it has no function"
            raise UsageError(f"{file} has no function {attribute!r}; {known}. It must be {attribute}{SIGNATURE}.")
        return cls(name, members[attribute], hashlib.sha256(file.read_bytes()).hexdigest())

    @property
    def identity(self) -> str:
        """What a checkpoint is compared by: function and content of the file."""
        path, _, function = self.name.rpartition(":")
        return f"{Path(path).name}:{function}, sha256 {self.sha256[:12]}"

    def build(self, width: int, height: int, depth: int) -> keras.Model:
        """Call the function and check what it returns.

        Raises
        ------
        UsageError
            It raises an error, or returns something else than this class describes.
        """
        try:
            model = self.function(width, height, depth)
        except Exception as error:  # whatever the user's function raises
            file = Path(self.name.rpartition(":")[0])
            called = f"{self.name} called with ({width}, {height}, {depth})"
            raise UsageError(f"{called} failed: {_describe_error(error, file)}.") from error
        for problem in _find_problems(model, (width, height, depth)):
            raise UsageError(f"{self.name} {problem}.")
        return model


def _is_own_function(member: object, file: Path) -> bool:
    code = getattr(member, "__code__", None)
    return code is not None and code.co_filename == str(file)


def _describe_error(error: BaseException, file: Path) -> str:
    """Type, reason in one line, and the last line of the file that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {keras_reason(error).rstrip('.')}{where}"


def _find_problems(model: object, size: tuple[int, int, int]) -> Iterator[str]:
    """What keeps a model from being trained here, as sentences without a subject."""
    if not isinstance(model, keras.Model):
        yield f"returned {type(model).__name__}; it must return a keras.Model"
        return
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if [tensor.shape[1:] for tensor in inputs] != [(*size, 1)]:
        found = ", ".join(str(tensor.shape) for tensor in inputs) or "nothing before it is called"
        yield f"takes {found}; it must begin with keras.Input(({', '.join(map(str, size))}, 1))"
    if [tensor.shape[1:] for tensor in outputs] != [(1,)]:
        found = ", ".join(str(tensor.shape) for tensor in outputs) or "nothing"
        yield f"returns {found}; it must return (None, 1), the probability of the second class"
        return
    if not _ends_with_sigmoid(outputs[0]):
        yield 'must end with a sigmoid, such as keras.layers.Dense(1, activation="sigmoid", dtype="float32")'
    if outputs[0].dtype != "float32":
        yield f'returns {outputs[0].dtype}; give its last layer dtype="float32"'
    foreign = sorted({type(layer).__name__ for layer in _all_layers(model) if not _is_of_keras(layer)})
    if foreign:
        yield f"uses {', '.join(foreign)}; another program could not load the trained file: use layers of Keras alone"


def _ends_with_sigmoid(output: Any) -> bool:
    operation = output._keras_history.operation
    activation = getattr(operation, "activation", None)
    return activation is keras.activations.sigmoid or type(operation).__name__ == "Sigmoid"


def _all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _all_layers(layer) if isinstance(layer, keras.Model) else (layer,)


def _is_of_keras(layer: keras.layers.Layer) -> bool:
    """Whether Keras loads it without the file that built it; its safe mode refuses functions of Python."""
    return type(layer).__module__.startswith("keras.") and not isinstance(layer, keras.layers.Lambda)
