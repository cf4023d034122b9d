"""Convert a graph to 8-bit integers: ONNX Runtime's static quantisation in QDQ form, with sum-preserving rounding.

Rounded one by one, the weights of a kernel change its sum by a step or more. Neighbouring voxels are similar, so this
error shifts a channel as a whole, in every voxel, and the mean after the last layer does not remove it. So a few
weights are rounded the other way, those nearest to the middle of a step first. This needs no volumes.
"""

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from ct3d_edge.conversion.passes.graph import REWRITE_MARK, rank
from ct3d_edge.conversion.passes.pipeline import TARGETS_KEEPING_3D, Target
from ct3d_edge.conversion.passes.validate_graph import validate_graph
from ct3d_edge.conversion.precision.qdq_layout import arrange_qdq
from ct3d_edge.conversion.precision.tile_ranges import share_ranges
from ct3d_edge.errors import Ct3dError, ModelError

QUANTIZED_OPS = sorted({*QLinearOpsRegistry, *QDQRegistry})
"""Operators that `quantize_static` quantises by default."""


class ConstantTable:
    """Initializers of a graph; changes are made in the graph itself."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in proto.graph.initializer}

    def get(self, name: str) -> NDArray[Any] | None:
        """The value; None if a node computes it."""
        tensor = self._tensors.get(name)
        return None if tensor is None else np.asarray(onnx.numpy_helper.to_array(tensor))

    def put(self, name: str, value: NDArray[Any]) -> None:
        """Replace the value."""
        self._tensors[name].CopyFrom(onnx.numpy_helper.from_array(value, name))


def snap_to_grid(proto: onnx.ModelProto, top: int) -> onnx.ModelProto:
    """A copy whose convolution weights are multiples of the step of quantisation per output channel.

    Parameters
    ----------
    top
        Integer that stands for a channel's largest weight: 127, or 64 where weights have seven bits.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    constants = ConstantTable(made)
    for name in {node.input[1] for node in made.graph.node if node.op_type == "Conv"}:
        weights = constants.get(name)
        if weights is not None and weights.size:
            constants.put(name, round_weights(weights, top))
    return made


def round_weights(weights: NDArray[np.float32], top: int) -> NDArray[np.float32]:
    """Weights ``(out, in, *kernel)`` as multiples of a step per output channel, each kernel's sum within half a step.

    The largest weight of a channel does not change: quantisation derives the step from it.
    """
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1).astype(np.float64)
    step = np.where(largest > 0, largest, 1.0)[:, None, None] / top
    exact = weights.reshape(*weights.shape[:2], -1) / step
    nearest = np.rint(exact)
    missed = exact - nearest
    wanted = np.rint(missed.sum(axis=-1, keepdims=True))
    first = np.argsort(np.argsort(-missed * np.sign(wanted), axis=-1, kind="stable"), axis=-1, kind="stable")
    moved = nearest + np.where(first < np.abs(wanted), np.sign(wanted), 0.0)
    return np.asarray((np.clip(moved, -top, top) * step).reshape(weights.shape), np.float32)


class _SingleBatch(CalibrationDataReader):  # type: ignore[misc]  # published without types
    """One network input, as ONNX Runtime's calibration reads it."""

    def __init__(self, name: str, batch: NDArray[np.float32]) -> None:
        self._batches = iter([{name: batch}])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)


def quantize(
    proto: onnx.ModelProto,
    batches: Iterable[NDArray[np.float32]],
    *,
    exclude: Collection[str],
    symmetric: bool,
    seven_bits: bool,
    method: CalibrationMethod = CalibrationMethod.MinMax,
) -> onnx.ModelProto:
    """Quantise weights per channel, and activations within ranges that the tiles of a layer share.

    Ranges are updated volume by volume, so memory does not grow with their number.

    Parameters
    ----------
    proto
        A float32 graph, shapes known; it is not changed.
    batches
        Network inputs with their batch axis.
    exclude
        Names of nodes that stay float32.
    symmetric
        Whether zero is the integer zero, as GPUs require; else activations are unsigned.
    seven_bits
        Whether weights use half their range: processors without VNNI add pairs of products in 16 bits.
    method
        How ranges are found: from the lowest to the highest value, unless for a comparison.

    Raises
    ------
    ModelError
        ONNX Runtime cannot quantise the graph.
    """
    with tempfile.TemporaryDirectory() as folder, _suppress_ort_advice():
        given = Path(folder, "float.onnx")
        onnx.save(proto, given)
        try:
            ranges = share_ranges(proto, _measure_ranges(given, proto.graph.input[0].name, batches, method))
            quantizer = QDQQuantizer(
                load_model_with_shape_infer(given),
                per_channel=True,
                reduce_range=seven_bits,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                tensors_range=ranges,
                nodes_to_quantize=[],
                nodes_to_exclude=list(exclude),
                op_types_to_quantize=QUANTIZED_OPS,
                extra_options={"ActivationSymmetric": symmetric, "QDQKeepRemovableActivations": True},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        except Ct3dError:
            raise
        except Exception as error:  # ONNX Runtime's own come straight from Exception
            raise ModelError(f"ONNX Runtime cannot quantise this network: {error}") from error
    made: onnx.ModelProto = quantizer.model.model
    return made


def _measure_ranges(
    given: Path, name: str, batches: Iterable[NDArray[np.float32]], method: CalibrationMethod
) -> TensorsData:
    """Range of each tensor of a file, whose input has a name."""
    augmented = str(given.with_name("augmented.onnx"))
    calibrator = create_calibrator(given, QUANTIZED_OPS, augmented, calibrate_method=method)
    for batch in batches:
        calibrator.collect_data(_SingleBatch(name, batch))
        del batch
    return calibrator.compute_data()


@contextmanager
def _suppress_ort_advice() -> Iterator[None]:
    """Suppress the advice to preprocess the graph, which the passes have done."""
    root: Any = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


QUANTIZABLE_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators whose multiplications are worth quantising."""

VECTOR_RANK = 2
"""Axes of a batch of vectors: dense layers cost little, and eight bits are too few for a probability."""


def max_weight_integer(target: Target) -> int:
    """Integer of a channel's largest weight: seven bits where pairs of products are added in 16 bits, else eight."""
    return 64 if target == "cpu" else 127


def convert_to_int8(
    proto: onnx.ModelProto,
    batches: Iterable[NDArray[np.float32]],
    target: Target,
    method: CalibrationMethod = CalibrationMethod.MinMax,
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Quantise a rewritten graph; ``method`` as in `quantize`.

    Returns
    -------
    tuple
        The graph with QuantizeLinear and DequantizeLinear, and the nodes that stay float32, each with the reason.

    Raises
    ------
    ModelError
        There is nothing to quantise, the graph holds Winograd convolutions, or ONNX Runtime cannot quantise it.
    """
    model = validate_graph(proto)
    _require_no_winograd(model)
    for number, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type}.{number}"
    fp32_nodes = {str(node.name): reason for node in model.graph if (reason := _reason(node))}
    left = {node.op_type for node in model.graph if node.name not in fp32_nodes}
    if not left & QUANTIZABLE_OPS:
        raise ModelError("There is no convolution in this network to put into 8-bit integers. Use `precision=fp16`.")
    made = quantize(
        ir.to_proto(model),
        batches,
        exclude=fp32_nodes,
        symmetric=target in TARGETS_KEEPING_3D,
        seven_bits=target == "cpu",
        method=method,
    )
    if target in TARGETS_KEEPING_3D:
        made = _arrange(made, unsigned=target == "openvino")
    del made.graph.value_info[:]
    return made, fp32_nodes


def _arrange(proto: onnx.ModelProto, *, unsigned: bool) -> onnx.ModelProto:
    """QDQ as integer runtimes fuse it. ONNX Runtime's CPU provider is slower with it."""
    model = ir.from_proto(proto)
    arrange_qdq(model, unsigned=unsigned)
    return ir.to_proto(model)


def _require_no_winograd(model: ir.Model) -> None:
    """Refuse Winograd convolutions: their intermediate sums do not fit eight bits."""
    filtered = next((name for name in model.graph.initializers if f"{REWRITE_MARK}before." in name), None)
    if filtered is not None:
        raise ModelError(
            f"The file was made with minimal filtering (Winograd) of {filtered.split(REWRITE_MARK)[0]}, whose sums do "
            "not fit 8-bit integers. Start from the Keras model, or from a file made with `level=none` or "
            "`level=exact`."
        )


def _reason(node: ir.Node) -> str:
    """Why a node stays float32; empty if it need not."""
    if node.op_type in ("ReduceMax", "ReduceMin"):
        return "it compares numbers and multiplies none"
    if node.op_type.startswith("Reduce"):
        return "it adds up many values of which each would be rounded to eight bits"
    if all((axes := rank(value)) is not None and axes <= VECTOR_RANK for value in node.outputs):
        return "it works on vectors, where eight bits save nothing"
    return ""
