"""A whole file with the preprocessing inside, and what stops one that is wrong."""

import numpy as np
import onnx
import pytest
from builders import LAS, MakeModel
from numpy.typing import NDArray

from ct3d_edge.conversion.fused_io.fuse import add_fused_io, check_fused_parity, fuse_io
from ct3d_edge.errors import CheckFailedError, ModelError, UsageError
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test


@pytest.fixture
def scans(hu: NDArray[np.int16]) -> list[Volume]:
    """Eight that differ, of two sizes, with slopes and intercepts."""
    return [
        Volume((hu[:, : 20 - number % 2] + 60 * number + 1024) // 2, slope=2, intercept=-1024, affine=LAS)
        for number in range(8)
    ]


def test_answers_as_numpy_and_the_network_do(make_model: MakeModel, scans: list[Volume]) -> None:
    model = load_model_file(make_model(temperature=0.6))
    inside, parity = add_fused_io(model, scans)
    assert parity.passed
    assert parity.probability_difference < 1e-6
    with Runner(model, SessionRequest("cpu")) as network, Runner(inside, SessionRequest("cpu")) as whole:
        expected = network.infer(preprocess(scans[3], model.contract).volume[None])[0]
        voxels = np.ascontiguousarray(scans[3].stored.T)
        assert whole.infer_stored(voxels, 2, -1024) == pytest.approx(expected, abs=1e-6)
        assert whole.infer_stored(voxels, 2, -900) != pytest.approx(expected, abs=1e-3)


def test_the_file_describes_and_proves_itself(make_model: MakeModel, scans: list[Volume]) -> None:
    model = load_model_file(make_model(quarter_turns=3))
    inside, parity = add_fused_io(model, scans)
    assert inside.stored_voxels
    assert (inside.contract, inside.golden) == (model.contract, model.golden)
    told = inside.provenance["embedded_preprocessing"]
    assert told["probability_difference"] == parity.probability_difference
    assert told["scans"][1] == {"shape": [24, 19, 12], "slope": 2, "intercept": -1024}
    onnx.checker.check_model(onnx.ModelProto.FromString(inside.data), full_check=True)
    with Runner(model, SessionRequest("cpu")) as network, Runner(inside, SessionRequest("cpu")) as whole:
        assert run_golden_test(whole).largest_difference == pytest.approx(
            run_golden_test(network).largest_difference, abs=1e-6
        )


def test_another_preprocessing_does_not_pass(make_model: MakeModel, scans: list[Volume]) -> None:
    model = load_model_file(make_model())
    with Runner(model, SessionRequest("cpu")) as network:
        answers = [network.infer(preprocess(scan, model.contract).volume[None])[0] for scan in scans]
    assert len({round(float(answer[1]), 4) for answer in answers}) == 8, "the scans must differ for the network"
    other = load_model_file(make_model("other.onnx", hu_window=(-1000.0, 410.0)))
    with pytest.raises(CheckFailedError, match=r"parity check failed.*No file was written"):
        check_fused_parity(fuse_io(other), model, scans)


def test_few_scans_are_no_proof(make_model: MakeModel, scans: list[Volume]) -> None:
    with pytest.raises(UsageError, match="at least 8 volumes, found 7"):
        add_fused_io(load_model_file(make_model()), scans[:7])


@pytest.mark.parametrize("name", ["voxels", "ct3d_before_shape_0"])
def test_a_network_with_a_tensor_of_that_name_is_refused(make_model: MakeModel, scans: list[Volume], name: str) -> None:
    path = make_model()
    proto = onnx.load(path)
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = name
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=f"a tensor called {name}"):
        add_fused_io(load_model_file(path), scans)


def test_an_old_opset_is_refused(make_model: MakeModel, scans: list[Volume]) -> None:
    path = make_model()
    proto = onnx.load(path)
    proto.opset_import[0].version = 12
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="has opset 12"):
        add_fused_io(load_model_file(path), scans)
