import numpy as np
import onnx
import pytest
from graphs import GraphMaker

from ct3d_edge.conversion.precision.bias_correction import correct_biases
from ct3d_edge.conversion.precision.int8 import convert_to_int8
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs

SHAPE = (4, 12, 10)


def network() -> onnx.ModelProto:
    g = GraphMaker(*SHAPE)
    x = g.op("Relu", g.conv("x", 8, 4, 3, 3))
    x = g.op("Relu", g.conv(x, 8, 8, 3, 3))
    return g.model(g.op("ReduceMean", x, np.array([2, 3]), keepdims=0))


def batches(first: int, count: int = 6) -> list[np.ndarray]:
    return [np.random.default_rng(first + n).random((1, *SHAPE), np.float32) for n in range(count)]


def shifts(single: onnx.ModelProto, made: onnx.ModelProto, seen: list[np.ndarray]) -> np.ndarray:
    """How far the mean of each channel behind each ReLU is off, one layer after the other."""
    names = [node.output[0] for node in single.graph.node if node.op_type == "Relu"]
    both = []
    for batch in seen:
        pairs = zip(
            IntermediateOutputs(single, names).tensors(batch),
            IntermediateOutputs(made, names).tensors(batch),
            strict=True,
        )
        both.append([(found - right).mean(axis=(0, 2, 3)) for (_, right), (_, found) in pairs])
    return np.asarray(np.mean(both, axis=0))


def off_by_a_tenth(made: onnx.ModelProto) -> onnx.ModelProto:
    """Every bias a tenth too large."""
    changed = onnx.ModelProto()
    changed.CopyFrom(made)
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    for tensor in changed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT32 and f"{tensor.name}_scale" in scales:
            bias = onnx.numpy_helper.to_array(tensor) + np.rint(0.1 / scales[f"{tensor.name}_scale"])
            tensor.CopyFrom(onnx.numpy_helper.from_array(bias.astype(np.int32), tensor.name))
    return changed


@pytest.fixture
def made() -> onnx.ModelProto:
    return convert_to_int8(network(), iter(batches(0)), "cpu")[0]


def test_means_are_those_of_the_float32_graph_on_volumes_not_seen_before(made: onnx.ModelProto) -> None:
    wrong = off_by_a_tenth(made)
    assert np.abs(shifts(network(), wrong, batches(50))).max() > 0.05
    corrected = correct_biases(network(), wrong, batches(0))
    assert np.abs(shifts(network(), corrected, batches(50))).max() < 0.02, "one step towards it"
    better = correct_biases(network(), made, batches(0))
    left, before = (np.abs(shifts(network(), graph, batches(50))) for graph in (better, made))
    assert left.mean() < 0.7 * before.mean()


def test_only_biases_change(made: onnx.ModelProto) -> None:
    corrected = correct_biases(network(), off_by_a_tenth(made), batches(0))
    assert list(corrected.graph.node) == list(made.graph.node)
    before = {tensor.name: tensor for tensor in made.graph.initializer}
    for tensor in corrected.graph.initializer:
        if tensor.data_type != onnx.TensorProto.INT32:
            assert tensor == before[tensor.name]


def test_convolutions_that_share_weights_are_each_corrected() -> None:
    """As where a layer is computed in pieces."""
    g = GraphMaker(*SHAPE)
    halves = [g.conv("x", 8, 4, 3, 3), g.conv(g.op("Sqrt", "x"), 8, 4, 3, 3), g.conv("x", 8, 4, 3, 3)]
    x = g.op("Concat", *(g.op("Relu", half) for half in halves), axis=1)
    proto = g.model(g.op("ReduceMean", x, np.array([2, 3]), keepdims=0))
    first, *others = (node for node in proto.graph.node if node.op_type == "Conv")
    for other in others:
        other.input[1:] = first.input[1:]
    used = {name for node in proto.graph.node for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    made = convert_to_int8(proto, iter(batches(0)), "cpu")[0]
    corrected = correct_biases(proto, off_by_a_tenth(made), batches(0))
    assert np.abs(shifts(proto, off_by_a_tenth(made), batches(50))).max() > 0.05
    assert np.abs(shifts(proto, corrected, batches(50))).max() < 0.01


def test_a_convolution_without_bias_stays_as_it_is() -> None:
    g = GraphMaker(*SHAPE)
    x = g.op("Relu", g.conv("x", 8, 4, 3, 3, bias=False))
    proto = g.model(g.op("ReduceMean", x, np.array([2, 3]), keepdims=0))
    made = convert_to_int8(proto, iter(batches(0)), "cpu")[0]
    assert correct_biases(proto, made, batches(0)) == made


def test_a_convolution_without_relu_is_matched_itself() -> None:
    g = GraphMaker(*SHAPE)
    proto = g.model(g.op("ReduceMean", g.conv("x", 8, 4, 3, 3), np.array([2, 3]), keepdims=0))
    made = off_by_a_tenth(convert_to_int8(proto, iter(batches(0)), "cpu")[0])
    (answer,) = [node.output[0] for node in proto.graph.node if node.op_type == "ReduceMean"]

    def off(graph: onnx.ModelProto) -> float:
        return max(
            float(np.abs(found - right).max())
            for batch in batches(50)
            for (_, right), (_, found) in zip(
                IntermediateOutputs(proto, [answer]).tensors(batch),
                IntermediateOutputs(graph, [answer]).tensors(batch),
                strict=True,
            )
        )

    assert off(made) > 0.09
    assert off(correct_biases(proto, made, batches(0))) < 0.01


def test_behind_pooling_the_mean_of_what_is_pooled_counts() -> None:
    g = GraphMaker(*SHAPE)
    x = g.op("MaxPool", g.op("Relu", g.conv("x", 8, 4, 3, 3)), kernel_shape=[2, 2], strides=[2, 2])
    proto = g.model(g.op("ReduceMean", x, np.array([2, 3]), keepdims=0))
    made = off_by_a_tenth(convert_to_int8(proto, iter(batches(0)), "cpu")[0])
    corrected = correct_biases(proto, made, batches(0))
    pairs = [
        (
            IntermediateOutputs(proto, [x]).tensors(batch),
            IntermediateOutputs(corrected, [x]).tensors(batch),
            IntermediateOutputs(made, [x]).tensors(batch),
        )
        for batch in batches(50)
    ]
    means = np.mean([[next(tap)[1].mean(axis=(0, 2, 3)) for tap in taps] for taps in pairs], axis=0)
    assert np.abs(means[2] - means[0]).max() > 0.05
    assert np.abs(means[1] - means[0]).max() < 0.01


def test_a_channel_that_is_hardly_ever_active_is_moved_by_twenty_times_what_its_mean_lacks() -> None:
    g = GraphMaker(*SHAPE)
    relu = g.op("Relu", g.conv("x", 8, 4, 3, 3))
    proto = g.model(g.op("ReduceMean", relu, np.array([2, 3]), keepdims=0))
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name == conv.input[2])
    values = np.concatenate(
        [next(IntermediateOutputs(proto, [conv.output[0]]).tensors(batch))[1] for batch in batches(0)]
    )
    offset = onnx.numpy_helper.to_array(bias).copy()
    offset -= np.quantile(values, 0.98, axis=(0, 2, 3)).astype(np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(offset, bias.name))
    made = off_by_a_tenth(convert_to_int8(proto, iter(batches(0)), "cpu")[0])
    corrected = correct_biases(proto, made, batches(0))
    shared = next(node.input[2] for node in made.graph.node if node.op_type == "Conv")
    integers, scale = next(list(node.input[:2]) for node in made.graph.node if shared in node.output)
    before, after, step = (
        next(onnx.numpy_helper.to_array(t) for t in graph.graph.initializer if t.name == wanted)
        for graph, wanted in ((made, integers), (corrected, integers), (made, scale))
    )
    missing = -shifts(proto, made, batches(0))[0]
    assert np.abs(missing / 0.05).min() > 10 * step.max()
    assert (after - before) * step == pytest.approx(missing / 0.05, abs=float(step.max()))
