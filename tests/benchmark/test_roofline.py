import pytest

from ct3d_edge.benchmark.roofline import (
    LayerNodes,
    count_bytes,
    count_direct_flops,
    count_flops,
    layer_name,
    read_layers,
)
from ct3d_edge.session.node_profile import NodeTimes

Shape = tuple[int, ...]


def node(
    operator: str, name: str = "", inputs: tuple[Shape, ...] = ((1,),), output: Shape = (1,), ms: float = 1.0
) -> NodeTimes:
    return NodeTimes(name, operator, inputs, (output,), 400, 40, (ms,))


def conv(name: str, weights: Shape = (4, 2, 3, 3, 3), output: Shape = (1, 4, 5, 5, 5)) -> NodeTimes:
    return node("FusedConv", name, ((1, 2, 7, 7, 7), weights, (4,)), output)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("3dcnn_1/conv3d_17_1/Relu/ct3d.146:0_nchwc", "conv3d_17"),
        ("3dcnn_1/max_pooling3d_17_1/MaxPool3D/ct3d.Reshape.141", "max_pooling3d_17"),
        ("Conv__45/ct3d.76:0_nchwc", "Conv__45"),
        ("Conv__45", "Conv__45"),
        ("fused 3dcnn_1/dense_8_1/MatMul/ct3d.32/MatMulAddFusion", "dense_8"),
        ("ReorderOutput_token_25", "ReorderOutput_token_25"),
    ],
)
def test_a_nodes_name_tells_its_layer(name: str, layer: str) -> None:
    assert layer_name(name) == layer


def test_transforms_pooling_and_reorders_go_with_their_convolution() -> None:
    nodes = [
        node("Slice", "net/max_pooling3d_1/MaxPool3D/ct3d.Slice.1"),
        conv("net/conv3d_1_1/Relu/ct3d.1:0_nchwc"),
        node("MaxPool", "net/max_pooling3d_1/MaxPool3D:0_nchwc"),
        node("ReorderOutput", "ReorderOutput_token_1"),
        node("Gather", "Conv__9/ct3d.Gather.1"),
        node("ReorderInput", "ReorderInput"),
        conv("Conv__9/ct3d.2:0_nchwc"),
        node("Relu", "net/conv3d_2_1/Relu/ct3d.3"),
        node("Reshape", "Conv__12/ct3d.4"),
        conv("net/conv3d_3_1/Relu/ct3d.5:0_nchwc"),
        node("ReduceMean", "net/global_average_pooling3d_1/Mean"),
        node("FusedGemm", "fused net/dense_1/MatMul"),
    ]
    found = {layer.name: [entry.operator for entry in layer.nodes] for layer in read_layers(nodes)}
    assert found == {
        "conv3d_1": ["Slice", "FusedConv", "MaxPool", "ReorderOutput"],
        "conv3d_2": ["Gather", "ReorderInput", "FusedConv", "Relu"],
        "conv3d_3": ["Reshape", "FusedConv"],
        "head": ["ReduceMean", "FusedGemm"],
    }


def test_pieces_of_one_convolution_are_one_layer() -> None:
    nodes = [conv("Conv__1/ct3d.1"), conv("Conv__2/ct3d.2"), conv("Conv__1/ct3d.3"), conv("Conv__2/ct3d.4")]
    assert {layer.name: len(layer.nodes) for layer in read_layers(nodes)} == {"Conv__1": 2, "Conv__2": 2}


def test_a_network_without_convolutions_is_one_layer() -> None:
    (layer,) = read_layers([node("MatMul"), node("Relu")])
    assert (layer.name, len(layer.nodes)) == ("network", 2)


def test_operations_are_counted_from_shapes() -> None:
    assert count_flops(conv("a")) == 2 * (4 * 5**3) * (2 * 27)
    assert count_flops(node("MatMul", inputs=((8, 10), (3, 10, 7)), output=(3, 8, 7))) == 2 * 3 * 8 * 7 * 10
    assert count_flops(node("FusedGemm", inputs=((1, 256), (512,)), output=(1, 512))) == 2 * 256 * 512
    assert count_flops(node("MaxPool")) == 0


def test_bytes_that_cannot_be_avoided() -> None:
    assert count_bytes(node("Conv")) == 440
    assert count_bytes(node("Slice")) == 80
    assert count_bytes(node("Reshape")) == 0


def test_minimal_filtering_stands_for_more_operations_than_it_does() -> None:
    """F(4, 3): six two-dimensional convolutions for twelve."""
    filtered = conv("Conv__1/ct3d.2", (6 * 4, 2, 3, 3), (1, 6 * 4, 5, 5))
    first = node("MatMul", "Conv__1/ct3d.MatMul.1", ((6, 6), (1, 6, 98)), (1, 6, 98))
    last = node("MatMul", "Conv__1/ct3d.MatMul.3", ((4, 6), (1, 6, 100)), (1, 4, 100))
    layer = LayerNodes("Conv__1", (first, filtered, last))
    assert count_direct_flops(layer) == 2 * count_flops(filtered)
    as_3d = 2 * (4 * 4 * 5 * 5) * (2 * 27)  # four planes of four channels, 27 voxels of two channels each
    assert count_direct_flops(layer) == as_3d
    assert count_direct_flops(LayerNodes("plain", (first, conv("a")))) == count_flops(conv("a"))


def test_filtering_along_all_axes_is_a_layer_too() -> None:
    """F(4, 3) three times over: 216 products a tile and pair of channels for 64 outputs of 27 voxels."""
    product = node("MatMul", "Conv__2/ct3d.MatMul.4", ((1, 216, 10, 2), (216, 2, 4)), (1, 216, 10, 4))
    after = [
        node("MatMul", f"Conv__2/ct3d.MatMul.{n}", ((4, 6), (4 ** (n - 5), 6, 9)), (4 ** (n - 5), 4, 9))
        for n in (5, 6, 7)
    ]
    first, second = read_layers([conv("Conv__1/ct3d.1"), node("Relu"), product, *after])
    assert (first.name, second.name, len(second.nodes)) == ("Conv__1", "Conv__2", 4)
    assert count_direct_flops(second) == pytest.approx(2 * (10 * 64 * 4) * (2 * 27))
