from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.session.golden_search import CONFIDENT_PROBABILITY, make_golden_test

SHAPE = (16, 12, 8)

Network = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def softmax(*logits: float) -> NDArray[np.float64]:
    powers = np.exp(np.array(logits) - max(logits))
    return np.asarray(powers / powers.sum())


def sigmoid(logit: float) -> NDArray[np.float64]:
    p = 1 / (1 + np.exp(-np.clip(logit, -700, 700)))
    return np.array([1 - p, p])


def bright(volume: NDArray[np.float32]) -> float:
    return float(volume.mean())


@pytest.mark.parametrize(
    "network",
    [
        lambda volume: sigmoid(400 * (bright(volume) - 0.45)),
        lambda volume: sigmoid(-400 * (bright(volume) - 0.45)),
        lambda volume: softmax(0, 300 * (bright(volume) - 0.4), 600 * (bright(volume) - 0.5)),
    ],
    ids=["rising", "falling", "three classes"],
)
def test_inputs_are_found_of_which_a_sure_network_is_unsure(network: Network) -> None:
    golden = make_golden_test(network, SHAPE)
    table = np.array(golden.expected)
    assert golden.weakness is None
    assert len(table) == 3
    assert table.max() <= CONFIDENT_PROBABILITY
    assert len(np.unique(table.round(3), axis=0)) == 3, "they disagree"
    assert [network(volume).tolist() for volume in golden.volumes(SHAPE)] == table.tolist()


def test_a_network_that_is_always_sure_is_said_to_be_tested_weakly() -> None:
    golden = make_golden_test(lambda volume: sigmoid(40 + bright(volume)), SHAPE)
    assert golden.weakness is not None
    assert "no input was found of which the network is unsure" in golden.weakness
    assert golden.limitation == golden.weakness


def test_a_network_that_answers_alike_is_said_to_be_tested_weakly() -> None:
    golden = make_golden_test(lambda volume: sigmoid(-0.024 + 1e-3 * bright(volume)), SHAPE)
    assert "nearly alike" in str(golden.weakness)


def test_the_search_is_short_and_the_same_each_time() -> None:
    asked = []

    def network(volume: NDArray[np.float32]) -> NDArray[np.float64]:
        asked.append(volume)
        return sigmoid(400 * (bright(volume) - 0.45))

    assert make_golden_test(network, SHAPE) == make_golden_test(network, SHAPE)
    assert len(asked) / 2 <= 30


def test_a_jump_leaves_no_input_to_be_unsure_of() -> None:
    golden = make_golden_test(lambda volume: sigmoid(np.copysign(30, bright(volume) - 0.45)), SHAPE)
    assert "no input was found" in str(golden.weakness)
