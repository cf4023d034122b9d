"""A graph with the tensors between its nodes as outputs, to measure or compare them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.errors import ModelError, ProviderError
from ct3d_edge.modelfile.tensor_memory import tensor_bytes
from ct3d_edge.providers.availability import get_provider
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.providers.options import default_options
from ct3d_edge.session.session import SessionConfig, SessionRefused, open_session

MAX_CHUNK_BYTES = 512_000_000
"""Bytes of tensors that are handed out at a time; the graph runs once more for each further lot."""


class IntermediateOutputs:
    """An open session that gives any of a graph's floating-point tensors.

    Whoever looks between two operators keeps them from being fused: what is measured here is each operator alone.

    Parameters
    ----------
    proto
        The graph; it is not changed.
    names
        Tensors to be handed out; all that are computed if None.
    on
        The provider that runs it.
    config
        How it is set up; the provider's defaults if None.

    Raises
    ------
    ModelError
        ONNX Runtime refuses the graph.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        names: Sequence[str] | None = None,
        on: ProviderName = "cpu",
        config: SessionConfig | None = None,
    ) -> None:
        sizes = tensor_bytes(proto)
        self.names = tuple(sizes if names is None else names)
        self._lots = list(_chunks(self.names, sizes))
        opened = config or SessionConfig(get_provider(on), default_options(on))
        try:
            self._session = open_session(_with_outputs(proto, self.names), opened)
        except SessionRefused as error:
            raise ModelError(f"ONNX Runtime cannot run the graph on {on}: {error}") from error
        self._input = proto.graph.input[0].name
        self._on = on

    def tensors(self, batch: NDArray[np.float32] | Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Name and value of each tensor for one network input, in the order of ``names``; a lot at a time.

        Of a graph with several inputs, ``batch`` has each under its name.
        """
        feed = batch if isinstance(batch, Mapping) else {self._input: batch}
        for lot in self._lots:
            try:
                values = self._session.run(list(lot), feed)
            except Exception as error:  # ONNX Runtime's exceptions share no base class
                raise ProviderError(f"ONNX Runtime failed on {self._on} while running: {error}") from error
            yield from zip(lot, values, strict=True)


def _with_outputs(proto: onnx.ModelProto, names: Sequence[str]) -> bytes:
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    there = {value.name for value in changed.graph.output}
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    return bytes(changed.SerializeToString())


def _chunks(names: Sequence[str], sizes: dict[str, int]) -> Iterator[tuple[str, ...]]:
    lot: list[str] = []
    held = 0
    for name in names:
        if lot and held + sizes.get(name, 0) > MAX_CHUNK_BYTES:
            yield tuple(lot)
            lot, held = [], 0
        lot.append(name)
        held += sizes.get(name, 0)
    if lot:
        yield tuple(lot)
