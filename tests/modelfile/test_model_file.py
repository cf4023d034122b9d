import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import MakeModel, tiny_proto
from onnx import TensorProto, helper, numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ContractError, ModelError
from ct3d_edge.modelfile.model_file import CONTRACT_KEY, GOLDEN_KEY, PROVENANCE_KEY, load_model_file, parse_model_file


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_reads_what_the_file_says_about_itself(make_model: MakeModel, contract: Contract) -> None:
    path = make_model()
    file = load_model_file(path)
    assert file.contract == contract
    assert (file.input_name, file.output_name, file.opset) == ("volume", "probability", 18)
    assert file.node_counts == {"Conv": 1, "MatMul": 1, "ReduceMean": 1, "Reshape": 1, "Sigmoid": 1}
    assert file.nodes == 5
    assert (file.batch_axis, file.weights) == ("batch", ("float32",))
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.data == path.read_bytes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx cannot be read: No such file"):
        load_model_file(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(make_model: MakeModel, share: float) -> None:
    path = make_model()
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError):
        load_model_file(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file", b"# a readme\n", bytes(1000)])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX file"):
        load_model_file(path)


@pytest.mark.parametrize("key", [CONTRACT_KEY, GOLDEN_KEY])
def test_a_file_without_contract_or_golden_test_is_refused_with_the_way_out(
    contract: Contract, tmp_path: Path, key: str
) -> None:
    proto = tiny_proto(contract)
    kept = {entry.key: entry.value for entry in proto.metadata_props if entry.key != key}
    helper.set_model_props(proto, kept)
    with pytest.raises(ContractError, match=f"without '{key}'.*ct3d-edge export"):
        load_model_file(saved(proto, tmp_path))


def test_weights_outside_the_file_are_refused(contract: Contract, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(tiny_proto(contract), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ModelError, match=r"keeps \d tensors in other files"):
        load_model_file(path)


def test_weights_outside_the_file_are_found_in_subgraphs(contract: Contract, tmp_path: Path) -> None:
    proto = tiny_proto(contract)
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    branch = helper.make_graph([helper.make_node("Constant", [], ["far"], value=tensor)], "branch", [], [])
    proto.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=branch, else_branch=branch))
    with pytest.raises(ModelError, match="keeps 2 tensors in other files"):
        load_model_file(saved(proto, tmp_path))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (
            Contract(shape=(16, 12, 9)),
            r"describes a float input of shape \('batch', 16, 12, 9, 1\), the graph has float",
        ),
        (Contract(shape=(16, 12, 8), channels="first"), "describes a float input"),
        (Contract(shape=(16, 12, 8), outputs=2), r"describes a float output of shape \('batch', 2\)"),
    ],
)
def test_a_contract_that_is_not_the_graphs_is_refused(
    contract: Contract, tmp_path: Path, described: Contract, message: str
) -> None:
    proto = tiny_proto(contract)
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    helper.set_model_props(proto, {**entries, CONTRACT_KEY: described.to_json()})
    with pytest.raises(ContractError, match=message):
        load_model_file(saved(proto, tmp_path))


def test_an_input_of_another_type_is_refused(contract: Contract) -> None:
    proto = tiny_proto(contract)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(ContractError, match="the graph has double"):
        parse_model_file(Path("model.onnx"), proto.SerializeToString())


def test_a_second_input_is_refused(contract: Contract) -> None:
    proto = tiny_proto(contract)
    proto.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError, match="2 inputs and 1 outputs"):
        parse_model_file(Path("model.onnx"), proto.SerializeToString())


@pytest.mark.parametrize("text", ["{", "[]", '{"a": NaN}', "[" * 100_000])
def test_a_damaged_provenance_is_refused(contract: Contract, text: str) -> None:
    proto = tiny_proto(contract)
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    helper.set_model_props(proto, {**entries, PROVENANCE_KEY: text})
    with pytest.raises(ModelError, match=PROVENANCE_KEY):
        parse_model_file(Path("model.onnx"), proto.SerializeToString())


def test_weights_outside_the_file_are_found_in_functions(contract: Contract, tmp_path: Path) -> None:
    proto = tiny_proto(contract)
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    node = helper.make_node("Constant", [], ["far"], value=tensor)
    proto.functions.append(helper.make_function("local", "f", [], ["far"], [node], [helper.make_opsetid("", 18)]))
    with pytest.raises(ModelError, match="keeps 1 tensors in other files"):
        load_model_file(saved(proto, tmp_path))


def test_a_fixed_batch_other_than_one_is_refused(contract: Contract) -> None:
    proto = tiny_proto(contract)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    with pytest.raises(ContractError, match=r"graph has float \(4, 16"):
        parse_model_file(Path("model.onnx"), proto.SerializeToString())


def test_an_unknown_element_type_is_refused(contract: Contract) -> None:
    proto = tiny_proto(contract)
    proto.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(ContractError, match="the graph has unknown"):
        parse_model_file(Path("model.onnx"), proto.SerializeToString())


def test_the_types_of_weights_are_told_by_their_space(contract: Contract) -> None:
    proto = tiny_proto(contract)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(10_000, np.float16), "half"))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(100, np.int8), "quantised"))
    file = parse_model_file(Path("model.onnx"), proto.SerializeToString())
    assert file.weights == ("float16", "float32", "int8")


def test_a_batch_without_a_name_cannot_be_fixed(contract: Contract) -> None:
    proto = tiny_proto(contract)
    proto.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    assert parse_model_file(Path("model.onnx"), proto.SerializeToString()).batch_axis is None
