"""Files with the preprocessing inside, as the runtime meets them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import MakeModel

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.fused_io.fuse import fuse_io
from ct3d_edge.errors import ContractError, ModelError
from ct3d_edge.modelfile.golden_input import BLEND_STEPS, make_phantom_volume
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.modelfile.signature import INPUT_KEY, to_stored_voxels
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test


@pytest.fixture
def inside(make_model: MakeModel, tmp_path: Path) -> Path:
    """A file with the preprocessing inside."""
    path = tmp_path / "inside.onnx"
    path.write_bytes(fuse_io(load_model_file(make_model())).SerializeToString())
    return path


def test_the_file_says_what_it_takes(inside: Path) -> None:
    file = load_model_file(inside, stored_voxels=True)
    assert file.stored_voxels
    assert file.interface == ("int16", "float32")
    assert (file.input_name, file.output_name, file.batch_axis) == ("voxels", "probabilities", None)
    with Runner(file, SessionRequest("cpu")) as runner:
        assert runner.run_report.to_dict()["precision"]["input"] == "int16"


def test_whoever_feeds_network_inputs_gets_one_sentence(inside: Path) -> None:
    with pytest.raises(ModelError, match=r"preprocessing inside.*docs/embedding.md"):
        load_model_file(inside)
    with (
        Runner(load_model_file(inside, stored_voxels=True), SessionRequest("cpu")) as runner,
        pytest.raises(ModelError, match="preprocessing inside"),
    ):
        runner.infer(np.zeros((1, 16, 12, 8), np.float32))


@pytest.mark.parametrize(
    "voxels",
    [np.zeros((8, 12, 16), np.float32), np.zeros((8, 12), np.int16), np.zeros((0, 12, 16), np.int16)],
    ids=["float", "a picture", "nothing"],
)
def test_voxels_of_another_kind_are_refused(inside: Path, voxels: np.ndarray) -> None:
    with (
        Runner(load_model_file(inside, stored_voxels=True), SessionRequest("cpu")) as runner,
        pytest.raises(ModelError, match="takes stored voxels"),
    ):
        runner.infer_stored(voxels, 1, 0)


def test_a_file_without_it_takes_no_stored_voxels(make_model: MakeModel) -> None:
    with (
        Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner,
        pytest.raises(ModelError, match="takes network inputs"),
    ):
        runner.infer_stored(np.zeros((8, 12, 16), np.int16), 1, 0)


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_the_golden_test_reaches_the_network_as_it_was(quarter_turns: int) -> None:
    contract = Contract(shape=(16, 12, 8), quarter_turns=quarter_turns, orientation="stored")
    volume = make_phantom_volume(1, contract.shape)
    voxels, slope, intercept = to_stored_voxels(volume, contract, BLEND_STEPS)
    prepared = preprocess(Volume(voxels.T, slope, intercept), contract).volume
    assert prepared == pytest.approx(volume, abs=1e-6)


def test_verify_runs_the_golden_test(make_model: MakeModel, inside: Path) -> None:
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as network:
        expected = run_golden_test(network).largest_difference
    with Runner(load_model_file(inside, stored_voxels=True), SessionRequest("cpu")) as runner:
        assert run_golden_test(runner).largest_difference == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda graph: graph.input.pop(), "voxels int16"),
        (lambda graph: setattr(graph.input[0].type.tensor_type, "elem_type", 1), "voxels float"),
        (
            lambda graph: setattr(graph.output[0].type.tensor_type.shape.dim[0], "dim_value", 3),
            r"probabilities float \(3\)",
        ),
    ],
)
def test_a_file_that_does_not_keep_its_word_is_refused(inside: Path, change: object, told: str) -> None:
    proto = onnx.load(inside)
    change(proto.graph)  # type: ignore[operator]
    inside.write_bytes(proto.SerializeToString())
    with pytest.raises(ContractError, match=rf"the graph has .*{told}.*export the model again"):
        load_model_file(inside, stored_voxels=True)


def test_an_unknown_kind_of_input_is_refused(make_model: MakeModel) -> None:
    path = make_model()
    proto = onnx.load(path)
    proto.metadata_props.add(key=INPUT_KEY, value="smells")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ContractError, match="takes 'smells'"):
        load_model_file(path)
