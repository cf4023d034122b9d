from dataclasses import replace

import numpy as np
import pytest
from networks import SaveNetwork, tiny_network
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.keras_loader import KerasSource, load_keras_source
from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.parity.parity_report import (
    DEFAULT_PARITY_ATOL,
    ParityReport,
    ReferenceFn,
    area_under_curve,
    compare_predictions,
    require_parity,
)
from ct3d_edge.conversion.parity.provider_parity import compare_outputs
from ct3d_edge.errors import CheckFailedError, UsageError
from ct3d_edge.modelfile.model_file import attach_metadata, parse_model_file
from ct3d_edge.session.golden_search import make_golden_test
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.temperature_scaling import logit


@pytest.fixture
def source(save_network: SaveNetwork) -> KerasSource:
    return load_keras_source(save_network())


@pytest.fixture
def runner(source: KerasSource) -> Runner:
    proto = convert_to_onnx(source.network, source.contract)
    attach_metadata(proto, source.contract, make_golden_test(source.probabilities, source.contract.shape), {})
    return Runner(parse_model_file(source.path, proto.SerializeToString()), SessionRequest("cpu"))


Volumes = list[NDArray[np.float32]]


def check_parity(
    reference: ReferenceFn, runner: Runner, volumes: Volumes, *, description: str, limit: float = DEFAULT_PARITY_ATOL
) -> ParityReport:
    (report,) = compare_outputs(reference, [runner], ParityDataset(volumes, description, limit=limit)).parity_reports
    require_parity(report)
    return report


def test_a_faithful_file_passes_and_the_figures_are_told(source: KerasSource, runner: Runner, volumes: Volumes) -> None:
    parity = check_parity(source.probabilities, runner, volumes, description="eight of noise")
    assert parity.passed
    assert parity.weakness is None
    assert parity.volumes == 8
    assert parity.probability_difference < 1e-6
    assert parity.label_flips == 0
    low, high = parity.probability_range
    assert low < high, "the volumes must differ for the network, or the proof proves little"
    assert "eight of noise" in parity.describe()


def test_another_networks_weights_fail(source: KerasSource, runner: Runner, volumes: Volumes) -> None:
    other = tiny_network()
    other.layers[-1].set_weights([w * 1.01 for w in other.layers[-1].get_weights()])
    with pytest.raises(CheckFailedError, match=r"parity check failed.*No file was written"):
        check_parity(replace(source, network=other).probabilities, runner, volumes, description="noise")


def test_the_largest_difference_is_the_smallest_limit_that_passes(
    source: KerasSource, runner: Runner, volumes: Volumes
) -> None:
    other = tiny_network()
    other.layers[-1].set_weights([w * 1.0001 for w in other.layers[-1].get_weights()])
    difference = check_parity(
        replace(source, network=other).probabilities, runner, volumes, description="noise", limit=1
    ).probability_difference
    assert difference > 0
    assert check_parity(
        replace(source, network=other).probabilities, runner, volumes, description="noise", limit=difference
    ).passed
    with pytest.raises(CheckFailedError):
        check_parity(
            replace(source, network=other).probabilities, runner, volumes, description="noise", limit=difference * 0.99
        )


def test_a_nan_fails(source: KerasSource, runner: Runner, volumes: Volumes) -> None:
    volumes[3][:] = np.nan
    with pytest.raises(CheckFailedError):
        check_parity(source.probabilities, runner, volumes, description="noise", limit=1)


def test_a_flip_fails_however_small_the_difference(source: KerasSource, runner: Runner, volumes: Volumes) -> None:
    other = tiny_network()
    kernel, bias = other.layers[-1].get_weights()
    scores = [float(logit(source.probabilities(v))[1]) for v in volumes]
    nearest = min(scores, key=abs)
    other.layers[-1].set_weights([kernel, bias - nearest - np.sign(nearest) * 1e-3])
    proto = convert_to_onnx(other, source.contract)
    attach_metadata(proto, source.contract, make_golden_test(source.probabilities, source.contract.shape), {})
    centred = Runner(parse_model_file(source.path, proto.SerializeToString()), SessionRequest("cpu"))
    other.layers[-1].set_weights([kernel, bias - nearest + np.sign(nearest) * 1e-3])
    with pytest.raises(CheckFailedError, match="1 label flip"):
        check_parity(replace(source, network=other).probabilities, centred, volumes, description="noise", limit=1)


def test_fewer_than_eight_volumes_are_no_proof(source: KerasSource, runner: Runner, volumes: Volumes) -> None:
    with pytest.raises(UsageError, match="at least 8 volumes, found 7"):
        check_parity(source.probabilities, runner, volumes[:7], description="noise")
    with pytest.raises(UsageError, match="at least 8 volumes, found 0"):
        check_parity(source.probabilities, runner, [], description="noise")


def test_the_same_answer_for_every_volume_proves_nothing(source: KerasSource, runner: Runner, volumes: Volumes) -> None:
    with pytest.raises(CheckFailedError, match=r"shows nothing.*`parity_data=FOLDER`"):
        check_parity(source.probabilities, runner, [volumes[0]] * 8, description="one volume, eight times")


def test_each_runner_is_told_on_which_volume_it_is_furthest_off(
    source: KerasSource, runner: Runner, volumes: Volumes
) -> None:
    other = tiny_network()
    kernel, bias = other.layers[-1].get_weights()
    other.layers[-1].set_weights([kernel, bias + 1])
    proto = convert_to_onnx(other, source.contract)
    attach_metadata(proto, source.contract, make_golden_test(source.probabilities, source.contract.shape), {})
    shifted = Runner(parse_model_file(source.path, proto.SerializeToString()), SessionRequest("cpu"))

    gaps = [np.abs(shifted.infer(volume[None])[0] - source.probabilities(volume)).max() for volume in volumes]
    least, most = volumes[int(np.argmin(gaps))], volumes[int(np.argmax(gaps))]

    def slanted(volume: NDArray[np.float32]) -> NDArray[np.float64]:
        return source.probabilities(volume) + (1e-4 if volume is least else 0)

    compared = compare_outputs(slanted, [runner, shifted], ParityDataset(volumes, "noise", limit=1e-5))
    assert [worst is volume for worst, volume in zip(compared.worst, (least, most), strict=True)] == [True, True]


def test_a_network_that_answers_nearly_alike_is_proven_with_a_warning(source: KerasSource, volumes: Volumes) -> None:
    other = tiny_network()
    other.layers[-1].set_weights([w * 1e-4 for w in other.layers[-1].get_weights()])
    flat = replace(source, network=other)
    proto = convert_to_onnx(other, source.contract)
    attach_metadata(proto, source.contract, make_golden_test(flat.probabilities, source.contract.shape), {})
    parity = check_parity(
        flat.probabilities,
        Runner(parse_model_file(source.path, proto.SerializeToString()), SessionRequest("cpu")),
        volumes,
        description="x",
    )
    assert parity.passed
    assert "predicts nearly the same for all 8 volumes" in str(parity.weakness)
    assert parity.to_dict()["weakness"] == parity.weakness


def columns(scores: list[float]) -> np.ndarray:
    values = np.array(scores)
    return np.stack([1 - values, values], axis=1)


def test_figures_of_a_small_table() -> None:
    found = compare_predictions(
        columns([0.1, 0.2, 0.6, 0.9]), columns([0.1, 0.1, 0.45, 0.05]), Contract(), truth=[0, 1, 0, 1]
    )
    assert found.probability_difference == pytest.approx(0.85)
    assert found.label_flips == 2
    assert found.swapped_pairs == 3, "the last volume fell below the other three"
    assert found.auc_difference == pytest.approx(0.75 - 0.125)


def test_without_both_classes_there_is_no_auc() -> None:
    pair = columns([0.1, 0.2]), columns([0.1, 0.3])
    assert compare_predictions(*pair, Contract()).auc_difference is None
    assert compare_predictions(*pair, Contract(), truth=[1, 1]).auc_difference is None


def test_a_nan_stays_one() -> None:
    assert np.isnan(compare_predictions(columns([0.1, 0.2]), columns([0.1, np.nan]), Contract()).probability_difference)


def test_the_area_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 40), rng.integers(0, 9, 40) / 8
    pairs = [(a, b) for a in scores[truth == 1] for b in scores[truth == 0]]
    obvious = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert area_under_curve(list(truth), scores) == pytest.approx(obvious)
