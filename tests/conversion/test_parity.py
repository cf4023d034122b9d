from dataclasses import replace

import numpy as np
import pytest
from networks import SaveNetwork, tiny_network
from numpy.typing import NDArray

from ct3d_edge.conversion.keras_loader import Source, load_source, to_onnx
from ct3d_edge.conversion.parity import Evidence, compare, prove
from ct3d_edge.conversion.write_model import attach
from ct3d_edge.errors import GateError, UsageError
from ct3d_edge.modelfile.model_file import parse_model_file
from ct3d_edge.session.golden_search import make_golden
from ct3d_edge.session.runner import Runner
from ct3d_edge.temperature_scaling import logit


@pytest.fixture
def source(save_network: SaveNetwork) -> Source:
    return load_source(save_network())


@pytest.fixture
def runner(source: Source) -> Runner:
    proto = to_onnx(source.network, source.contract)
    attach(proto, source.contract, make_golden(source.probabilities, source.contract.shape), {})
    return Runner(parse_model_file(source.path, proto.SerializeToString()), "cpu")


Volumes = list[NDArray[np.float32]]


def test_a_faithful_file_passes_and_the_figures_are_told(source: Source, runner: Runner, volumes: Volumes) -> None:
    proof = prove(source.probabilities, runner, volumes, material="eight of noise")
    assert proof.holds
    assert proof.weakness is None
    assert proof.volumes == 8
    assert proof.probability_difference < 1e-6
    assert proof.label_flips == 0
    low, high = proof.probability_range
    assert low < high, "the volumes must differ for the network, or the proof proves little"
    assert "eight of noise" in proof.describe()


def test_another_networks_weights_fail(source: Source, runner: Runner, volumes: Volumes) -> None:
    other = tiny_network()
    other.layers[-1].set_weights([w * 1.01 for w in other.layers[-1].get_weights()])
    with pytest.raises(GateError, match=r"does not hold.*No file was written"):
        prove(replace(source, network=other).probabilities, runner, volumes, material="noise")


def test_the_largest_difference_is_the_smallest_limit_that_passes(
    source: Source, runner: Runner, volumes: Volumes
) -> None:
    other = tiny_network()
    other.layers[-1].set_weights([w * 1.0001 for w in other.layers[-1].get_weights()])
    difference = prove(
        replace(source, network=other).probabilities, runner, volumes, material="noise", limit=1
    ).probability_difference
    assert difference > 0
    assert prove(
        replace(source, network=other).probabilities, runner, volumes, material="noise", limit=difference
    ).holds
    with pytest.raises(GateError):
        prove(replace(source, network=other).probabilities, runner, volumes, material="noise", limit=difference * 0.99)


def test_a_nan_fails(source: Source, runner: Runner, volumes: Volumes) -> None:
    volumes[3][:] = np.nan
    with pytest.raises(GateError):
        prove(source.probabilities, runner, volumes, material="noise", limit=1)


def test_a_flip_fails_however_small_the_difference(source: Source, runner: Runner, volumes: Volumes) -> None:
    other = tiny_network()
    kernel, bias = other.layers[-1].get_weights()
    scores = [float(logit(source.probabilities(v))[1]) for v in volumes]
    nearest = min(scores, key=abs)
    other.layers[-1].set_weights([kernel, bias - nearest - np.sign(nearest) * 1e-3])
    proto = to_onnx(other, source.contract)
    attach(proto, source.contract, make_golden(source.probabilities, source.contract.shape), {})
    centred = Runner(parse_model_file(source.path, proto.SerializeToString()), "cpu")
    other.layers[-1].set_weights([kernel, bias - nearest + np.sign(nearest) * 1e-3])
    with pytest.raises(GateError, match="1 label flip"):
        prove(replace(source, network=other).probabilities, centred, volumes, material="noise", limit=1)


def test_fewer_than_eight_volumes_are_no_proof(source: Source, runner: Runner, volumes: Volumes) -> None:
    with pytest.raises(UsageError, match="at least 8 volumes, found 7"):
        prove(source.probabilities, runner, volumes[:7], material="noise")
    with pytest.raises(UsageError, match="at least 8 volumes, found 0"):
        prove(source.probabilities, runner, [], material="noise")


def test_the_same_answer_for_every_volume_proves_nothing(source: Source, runner: Runner, volumes: Volumes) -> None:
    with pytest.raises(GateError, match=r"proves nothing.*--proof"):
        prove(source.probabilities, runner, [volumes[0]] * 8, material="one volume, eight times")


def test_each_runner_is_told_on_which_volume_it_is_furthest_off(
    source: Source, runner: Runner, volumes: Volumes
) -> None:
    other = tiny_network()
    kernel, bias = other.layers[-1].get_weights()
    other.layers[-1].set_weights([kernel, bias + 1])
    proto = to_onnx(other, source.contract)
    attach(proto, source.contract, make_golden(source.probabilities, source.contract.shape), {})
    shifted = Runner(parse_model_file(source.path, proto.SerializeToString()), "cpu")

    gaps = [np.abs(shifted.infer(volume[None])[0] - source.probabilities(volume)).max() for volume in volumes]
    least, most = volumes[int(np.argmin(gaps))], volumes[int(np.argmax(gaps))]

    def slanted(volume: NDArray[np.float32]) -> NDArray[np.float64]:
        return source.probabilities(volume) + (1e-4 if volume is least else 0)

    compared = compare(slanted, [runner, shifted], Evidence(volumes, "noise", 1e-5))
    assert [worst is volume for worst, volume in zip(compared.worst, (least, most), strict=True)] == [True, True]


def test_a_network_that_answers_nearly_alike_is_proven_with_a_warning(source: Source, volumes: Volumes) -> None:
    other = tiny_network()
    other.layers[-1].set_weights([w * 1e-4 for w in other.layers[-1].get_weights()])
    flat = replace(source, network=other)
    proto = to_onnx(other, source.contract)
    attach(proto, source.contract, make_golden(flat.probabilities, source.contract.shape), {})
    proof = prove(
        flat.probabilities,
        Runner(parse_model_file(source.path, proto.SerializeToString()), "cpu"),
        volumes,
        material="x",
    )
    assert proof.holds
    assert "answers nearly alike to all 8 volumes" in str(proof.weakness)
    assert proof.to_dict()["weakness"] == proof.weakness
