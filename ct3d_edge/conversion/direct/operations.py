"""Writers of the operations of `keras.ops`, by the name of their class."""

import re
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.direct.shape_operations import SHAPE_OPERATIONS
from ct3d_edge.conversion.direct.writer import OperationCall, WriteFn, known_shape, to_array


def _same(operator: str, **attributes: Any) -> WriteFn:
    """An operation that is one operator with the same inputs."""
    return lambda call: call.add(operator, *call.inputs, **attributes)


def _reduce(operator: str) -> WriteFn:
    def write(call: OperationCall) -> ir.Value:
        axes = call.operation.axis
        numbers = None if axis_count(axes) is None else np.array(axes, np.int64).reshape(-1)
        return call.add(operator, call.x, numbers, keepdims=int(call.operation.keepdims))

    return write


def axis_count(axes: Any) -> int | None:
    """Number of axes that are named; None for all."""
    return None if axes is None else int(np.size(axes))


def write_silu(call: OperationCall) -> ir.Value:
    """``x * sigmoid(x)``."""
    return call.add("Mul", call.x, call.add("Sigmoid", call.x))


def write_mish(call: OperationCall) -> ir.Value:
    """``x * tanh(softplus(x))``."""
    return call.add("Mul", call.x, call.add("Tanh", call.add("Softplus", call.x)))


def write_gelu(call: OperationCall) -> ir.Value:
    """By the error function, in the form that runtimes fuse, or by its approximation."""
    x = call.x
    if call.operation.approximate:
        cubic = call.add("Mul", call.add("Mul", x, x), x)
        inner = call.add("Add", x, call.add("Mul", cubic, 0.044715))
        bent = call.add("Tanh", call.add("Mul", inner, float(np.sqrt(2 / np.pi))))
    else:
        bent = call.add("Erf", call.add("Div", x, float(np.sqrt(2))))
    return call.add("Mul", call.add("Mul", x, call.add("Add", bent, 1.0)), 0.5)


def write_cast(call: OperationCall) -> ir.Value:
    """A type that is the input's changes nothing."""
    wanted = keras.backend.standardize_dtype(getattr(call.operation, "dtype", None) or "float32")
    wanted = ir.DataType.FLOAT if wanted == "float32" else getattr(ir.DataType, wanted.upper())
    return call.x if call.x.dtype in (wanted, None) else call.add("Cast", call.x, to=int(wanted))


def write_batch_norm(call: OperationCall) -> ir.Value:
    """``x * factor + term``."""
    x, mean, variance, *others = call.inputs
    named = dict(zip(("offset", "scale"), others, strict=False)) | call.options
    factor = 1 / np.sqrt(to_array(variance).astype(np.float64) + call.operation.epsilon)
    factor = factor * (1 if named.get("scale") is None else to_array(named["scale"]))
    term = (0 if named.get("offset") is None else to_array(named["offset"])) - to_array(mean) * factor
    shape = np.ones(len(call.shapes[0]), int)
    shape[call.operation.axis] = -1
    return call.add("Add", call.add("Mul", x, factor.reshape(shape)), term.reshape(shape))


def write_layer_norm(call: OperationCall) -> ir.Value:
    """Over the last axes."""
    operation, axes = call.operation, np.array(call.operation.axis).reshape(-1)
    names = dict(zip(("gamma", "beta"), call.inputs[1:], strict=False)) | call.options
    rank = len(call.shapes[0])
    first = min(axes % rank)
    if sorted(axes % rank) != list(range(first, rank)) or operation.rms_scaling:
        raise call.refuse("it normalises other axes than the last ones")
    lengths = [int(length or 0) for length in call.shapes[0][first:]]
    gamma = names.get("gamma")
    scale = np.ones(lengths, np.float32) if gamma is None else gamma
    epsilon = operation.epsilon or keras.backend.epsilon()
    return call.add("LayerNormalization", call.x, scale, names.get("beta"), axis=int(first - rank), epsilon=epsilon)


def write_moments(call: OperationCall) -> list[ir.Value]:
    """Mean and variance."""
    axes, keep = np.array(call.operation.axes, np.int64).reshape(-1), int(call.operation.keepdims)
    mean = call.add("ReduceMean", call.x, axes, keepdims=1)
    apart = call.add("Sub", call.x, mean)
    variance = call.add("ReduceMean", call.add("Mul", apart, apart), axes, keepdims=keep)
    return [mean if keep else call.add("Squeeze", mean, axes), variance]


def write_attention(call: OperationCall) -> ir.Value:
    """``softmax(q k / sqrt(length) + bias) v``; inputs ``(N, tokens, heads, length)``."""
    names = dict(zip(("query", "key", "value", "bias", "mask", "scale"), call.inputs, strict=False)) | call.options
    if call.operation.is_causal or call.operation.attn_logits_soft_cap or names.get("mask") is not None:
        raise call.refuse("attention with a mask")
    query, key, value = (names[name] for name in ("query", "key", "value"))
    scale = float(names.get("scale") or known_shape(query)[-1] ** -0.5)  # type: ignore[operator]  # a known length
    q, k = call.add("Transpose", query, perm=[0, 2, 1, 3]), call.add("Transpose", key, perm=[0, 2, 3, 1])
    scores = call.add("MatMul", call.add("Mul", q, scale), k)
    if names.get("bias") is not None:
        scores = call.add("Add", scores, names["bias"])
    weighted = call.add("MatMul", call.add("Softmax", scores, axis=-1), call.add("Transpose", value, perm=[0, 2, 1, 3]))
    return call.add("Transpose", weighted, perm=[0, 2, 1, 3])


def write_einsum(call: OperationCall) -> ir.Value:
    """The same formula; a product with a constant along the last axes as a product of matrices."""
    formula = call.operation.subscripts.replace(" ", "")
    product = re.fullmatch(r"(\w+)(\w+),\2(\w+)->\1\3", formula)
    if product is None or len(call.inputs) != 2 or isinstance(call.inputs[1], ir.Value):
        return call.add("Einsum", *call.inputs, equation=formula)
    weights, summed = to_array(call.inputs[1]), len(product[2])
    weights = weights.reshape(np.prod(weights.shape[:summed]), -1)
    before = [axis or 0 for axis in known_shape(call.x)[:-summed]]  # a zero is the length that the input has
    x = call.add("Reshape", call.x, np.array([*before, len(weights)])) if summed > 1 else call.x
    y = call.add("MatMul", x, weights)
    behind = call.shapes[0][len(before) :]
    return call.add("Reshape", y, np.array([*before, *behind])) if len(product[3]) > 1 else y


def _clip(low: float | None = None, high: float | None = None) -> WriteFn:
    def write(call: OperationCall) -> ir.Value:
        limits = (low, high) if high is not None else (call.operation.x_min, call.operation.x_max)
        return call.add("Clip", call.x, *(None if limit is None else float(limit) for limit in limits))

    return write


def _alpha(operator: str, attribute: str) -> WriteFn:
    return lambda call: call.add(operator, call.x, alpha=float(getattr(call.operation, attribute)))


def _axis(operator: str) -> WriteFn:
    return lambda call: call.add(operator, call.x, axis=int(call.operation.axis))


_UNARY = "Relu Sigmoid Tanh Softplus Softsign Selu Exp Log Sqrt Floor Ceil Round Sign Reciprocal Erf Sin Cos Identity"
_BINARY = {"Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div", "Power": "Pow"}
_BINARY |= {"Add": "Add", "Maximum": "Max", "Minimum": "Min", "Matmul": "MatMul"}

OPERATIONS: dict[str, WriteFn] = {
    **SHAPE_OPERATIONS,
    **{name: _same(name) for name in _UNARY.split()},
    **{name: _same(operator) for name, operator in _BINARY.items()},
    **{name: _same(operator) for name, operator in (("ReLU", "Relu"), ("Absolute", "Abs"), ("Negative", "Neg"))},
    **{name: _reduce(f"Reduce{name}") for name in ("Mean", "Max", "Min", "Sum", "Prod")},
    "Amax": _reduce("ReduceMax"),
    "Amin": _reduce("ReduceMin"),
    "Rsqrt": lambda call: call.add("Reciprocal", call.add("Sqrt", call.x)),
    "Square": lambda call: call.add("Mul", call.x, call.x),
    "Relu6": _clip(0, 6),
    "Clip": _clip(),
    "HardSigmoid": _same("HardSigmoid", alpha=1 / 6, beta=0.5),
    "HardSilu": _same("HardSwish"),
    "LeakyRelu": _alpha("LeakyRelu", "negative_slope"),
    "Elu": _alpha("Elu", "alpha"),
    "Softmax": _axis("Softmax"),
    "LogSoftmax": _axis("LogSoftmax"),
    "Silu": write_silu,
    "Mish": write_mish,
    "Gelu": write_gelu,
    "Cast": write_cast,
    "ConvertToTensor": write_cast,
    "BatchNorm": write_batch_norm,
    "LayerNorm": write_layer_norm,
    "Moments": write_moments,
    "DotProductAttention": write_attention,
    "Einsum": write_einsum,
}
