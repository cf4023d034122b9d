import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from builders import MakeModel, tiny_proto
from numpy.typing import NDArray
from scipy.special import expit, softmax

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError, UsageError
from ct3d_edge.modelfile.model_file import PROVENANCE_KEY, load_model_file, parse_model_file
from ct3d_edge.providers.availability import get_provider
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.session import SessionConfig, open_session
from ct3d_edge.system.machine import count_usable_cores
from ct3d_edge.temperature_scaling import to_probabilities


def test_scans_of_a_batch_run_in_turn_where_the_file_was_cut_into_pieces_for_one(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = tiny_proto(contract)
    sizes: list[int] = []
    run = Runner._run

    def counted(runner: Runner, batch: Any, size: int) -> Any:
        sizes.append(len(batch))
        return run(runner, batch, size)

    monkeypatch.setattr(Runner, "_run", counted)
    volumes = np.random.default_rng(0).random((3, *contract.shape), np.float32)
    answers = []
    for level, target in (("exact", "cpu"), ("fast", "cuda"), ("fast", "cpu"), ("small", "no-conv3d")):
        entry = next(entry for entry in proto.metadata_props if entry.key == PROVENANCE_KEY)
        entry.value = json.dumps({"optimize": {"level": level, "target": target}})
        with Runner(parse_model_file(Path("tiny.onnx"), proto.SerializeToString()), SessionRequest("cpu")) as runner:
            answers.append(runner.infer(volumes))
    assert sizes == [3, 3, *[1] * 6]
    assert all(other == pytest.approx(answers[0], abs=1e-6) for other in answers)


def test_gives_each_class_a_probability(make_model: MakeModel, contract: Contract) -> None:
    volumes = np.random.default_rng(0).random((3, *contract.shape), np.float32)
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        probabilities = runner.infer(volumes)
        single = np.vstack([runner.infer(volume[None]) for volume in volumes])
    assert probabilities.shape == (3, 2)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert len(np.unique(probabilities)) > 3, "different volumes, different answers"
    assert probabilities == pytest.approx(single, abs=1e-6)


def test_a_batch_that_stays_on_the_device_gets_the_same_answer(make_model: MakeModel, contract: Contract) -> None:
    volumes = np.random.default_rng(0).random((3, *contract.shape), np.float32)
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        run = runner.bind_on_device(volumes)
        outputs = [run().numpy().copy() for _ in range(2)]
        expected = runner.infer(volumes)
    for output in outputs:
        np.testing.assert_allclose(to_probabilities(output, contract), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("channels", ["last", "first", "none"])
def test_puts_the_channel_where_the_network_wants_it(make_model: MakeModel, contract: Contract, channels: str) -> None:
    volumes = np.random.default_rng(0).random((1, *contract.shape), np.float32)
    with Runner(load_model_file(make_model("a.onnx")), SessionRequest("cpu")) as reference:
        expected = reference.infer(volumes)
    with Runner(load_model_file(make_model("b.onnx", channels=channels)), SessionRequest("cpu")) as runner:
        assert runner.infer(volumes) == pytest.approx(expected)


@pytest.mark.parametrize(
    "volumes",
    [
        np.zeros((1, 16, 12, 9), np.float32),
        np.zeros((1, 16, 12, 8), np.float64),
        np.zeros((16, 12, 8), np.float32),
    ],
)
def test_refuses_what_is_not_the_contracts_input(make_model: MakeModel, volumes: np.ndarray) -> None:
    with (
        Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner,
        pytest.raises(ModelError, match=r"takes float32 \(N, 16, 12, 8\)"),
    ):
        runner.infer(volumes)


def test_the_run_report_says_what_ran_where(make_model: MakeModel) -> None:
    model = load_model_file(make_model())
    with Runner(model, SessionRequest("cpu")) as runner:
        run_report = runner.run_report
    assert (run_report.requested, run_report.actual, run_report.passed_over) == ("cpu", "cpu", ())
    ((provider, nodes),) = run_report.nodes
    assert provider == "cpu"
    assert 1 <= nodes <= model.nodes
    assert run_report.threads == count_usable_cores()
    assert (run_report.model_sha256, run_report.contract_sha256) == (model.sha256, model.contract.sha256)
    assert run_report.onnxruntime == ort.__version__


def test_a_graph_that_onnxruntime_refuses_is_a_model_error(contract: Contract) -> None:
    proto = tiny_proto(contract)
    proto.graph.node[1].op_type = "Conv9D"
    with pytest.raises(ModelError, match="ONNX Runtime cannot run"):
        Runner(parse_model_file(Path("model.onnx"), proto.SerializeToString()), SessionRequest("cpu"))


@pytest.mark.parametrize(
    ("activation", "outputs", "labels", "values", "expected"),
    [
        ("identity", 1, "ab", [[0.25]], [[0.75, 0.25]]),
        ("sigmoid", 1, "ab", [[0.0], [800.0], [-800.0]], [[0.5, 0.5], [0, 1], [1, 0]]),
        ("identity", 3, "abc", [[0.2, 0.3, 0.5]], [[0.2, 0.3, 0.5]]),
        ("softmax", 3, "abc", [[1000.0, 1000.0, -1000.0]], [[0.5, 0.5, 0]]),
        ("softmax", 2, "ab", [[0.0, np.log(3)]], [[0.25, 0.75]]),
    ],
)
def test_outputs_become_probabilities(
    activation: str, outputs: int, labels: str, values: list[list[float]], expected: list[list[float]]
) -> None:
    contract = Contract(activation=activation, outputs=outputs, labels=tuple(labels))  # type: ignore[arg-type]
    found = to_probabilities(np.array(values, np.float32), contract)
    assert found == pytest.approx(np.array(expected), abs=1e-7)


TEMPERED = [("identity", 1), ("sigmoid", 1), ("identity", 3), ("softmax", 2), ("softmax", 3)]


def raw_outputs(activation: str, outputs: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """What a network with this last step gives for 40 scans, and the logits that it stands for."""
    logits = np.random.default_rng(outputs).normal(0, 3, (40, outputs))
    if activation != "identity":
        return logits.astype(np.float32), logits
    return np.asarray(expit(logits) if outputs == 1 else softmax(logits, axis=1), np.float32), logits


def obvious_probabilities(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """The definition: logits over temperature, then sigmoid or softmax."""
    if logits.shape[1] == 1:
        return np.hstack([expit(-logits / temperature), expit(logits / temperature)])
    return np.asarray(softmax(logits / temperature, axis=1))


@pytest.mark.parametrize(("activation", "outputs"), TEMPERED)
def test_logits_are_divided_by_the_temperature(activation: str, outputs: int) -> None:
    labels = ("a", "b", "c")[: max(2, outputs)]
    output, logits = raw_outputs(activation, outputs)
    for temperature in (0.25, 1.0, 1.7, 30.0):
        contract = Contract(activation=activation, outputs=outputs, labels=labels, temperature=temperature)  # type: ignore[arg-type]
        expected = obvious_probabilities(logits, temperature)
        assert to_probabilities(output, contract) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("activation", "outputs"), [("identity", 1), ("identity", 3)])
def test_a_temperature_of_one_leaves_every_bit(activation: str, outputs: int) -> None:
    contract = Contract(outputs=outputs, labels=("a", "b", "c")[: max(2, outputs)])
    output, _ = raw_outputs(activation, outputs)
    assert np.array_equal(to_probabilities(output, contract)[:, -1], output[:, -1].astype(np.float64))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_nan_is_not_hidden(temperature: float) -> None:
    for activation in ("sigmoid", "identity"):
        contract = Contract(activation=activation, temperature=temperature)
        assert np.isnan(to_probabilities(np.array([[np.nan]], np.float32), contract)).all()


def test_a_symbolic_dimension_can_be_fixed(make_model: MakeModel) -> None:
    file = load_model_file(make_model())
    assert file.batch_axis == "batch"
    session = open_session(
        file.data, SessionConfig(get_provider("cpu"), parse_options("cpu"), fixed_dimensions={"batch": 2})
    )
    assert session.run(None, {file.input_name: np.zeros((2, *file.contract.input_shape), np.float32)})[0].shape == (
        2,
        1,
    )
    (axis, *_) = session.get_inputs()[0].shape
    assert axis == 2


def test_a_graph_that_gives_another_shape_than_it_promises_is_a_model_error(contract: Contract) -> None:
    proto = tiny_proto(contract)
    (name,) = [value.name for value in proto.graph.input]
    del proto.graph.node[:]
    proto.graph.node.add(op_type="Relu", input=[name], output=[proto.graph.output[0].name])
    runner = Runner(parse_model_file(Path("tiny.onnx"), proto.SerializeToString()), SessionRequest("cpu"))
    with runner, pytest.raises(ModelError, match=r"tiny\.onnx promises an output of shape \('batch', 1\) and gives"):
        runner.infer(np.zeros((1, *contract.shape), np.float32))


def test_onnxruntime_writes_nothing_in_colours_of_its_own() -> None:
    program = (
        "import ct3d_edge.session.session, numpy, onnxruntime as ort\n"
        "try:\n    ort.OrtValue.ortvalue_from_numpy(numpy.zeros(1), 'cuda', 0)\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_closed_session_is_refused_whatever_is_asked_of_it(make_model: MakeModel, contract: Contract) -> None:
    runner = Runner(load_model_file(make_model()), SessionRequest("cpu"))
    volumes = np.zeros((1, *contract.shape), np.float32)
    run_again = runner.bind_on_device(volumes)
    runner.close()
    for use in (lambda: runner.infer(volumes), run_again):
        with pytest.raises(UsageError, match="was closed"):
            use()
