"""Does the golden test find a file whose weights have been changed? Without that, nothing else about it matters."""

import numpy as np
import pytest
from mutations import as_model, in_bfloat16, mutants, sure_network, with_last_bias

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.parity.parity_data import load_parity_dataset
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.model_file import ModelFile, default_model_path, load_model_file
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test

MOVED = 1e-3
"""A changed probability that should have been found."""

SHARE = 0.95
"""Of the changed files that move one, how many must be found at least."""

CONTRACTS = [
    Contract(shape=(16, 12, 8)),
    Contract(shape=(16, 12, 8), outputs=3, labels=("a", "b", "c")),
    Contract(shape=(20, 16, 12), channels="first"),
]


def found_and_moving(model: ModelFile, volumes: np.ndarray, every: int = 1) -> tuple[int, int]:
    """How many changed files fail their golden test and move a volume's probability, and how many move one."""
    with Runner(model, SessionRequest("cpu")) as runner:
        right = np.vstack([runner.infer(volume[None]) for volume in volumes])
    found = moving = 0
    for number, (_, mutant) in enumerate(mutants(model)):
        if number % every:
            continue
        with Runner(mutant, SessionRequest("cpu")) as runner:
            wrong = np.vstack([runner.infer(volume[None]) for volume in volumes])
            if np.abs(wrong - right).max() > MOVED:
                moving += 1
                found += not run_golden_test(runner).passed
    return found, moving


@pytest.mark.parametrize("contract", CONTRACTS, ids=["two classes", "three classes", "channels first"])
def test_two_added_to_the_last_bias_is_found(contract: Contract) -> None:
    model = as_model(sure_network(contract), contract)
    for added, holds in ((0.0, True), (2.0, False), (0.01, False)):
        with Runner(with_last_bias(model, added), SessionRequest("cpu")) as runner:
            assert run_golden_test(runner).passed is holds, added


def test_the_shipped_file_with_two_added_to_its_last_bias_is_found() -> None:
    with Runner(with_last_bias(load_model_file(default_model_path()), 2.0), SessionRequest("cpu")) as runner:
        assert not run_golden_test(runner).passed


@pytest.mark.slow
@pytest.mark.parametrize("contract", CONTRACTS, ids=["two classes", "three classes", "channels first"])
def test_changed_weights_that_move_answers_are_found(contract: Contract) -> None:
    volumes = np.stack([make_phantom_volume(seed, contract.shape) for seed in range(8)])
    found, moving = found_and_moving(as_model(sure_network(contract), contract), volumes)
    assert moving > 20, "or nothing has been shown"
    assert found >= SHARE * moving


@pytest.mark.slow
def test_changed_weights_of_the_shipped_file_that_move_answers_are_found() -> None:
    model = load_model_file(default_model_path())
    volumes = np.stack(list(load_parity_dataset(None, model.contract).volumes))
    found, moving = found_and_moving(model, volumes[:4], every=5)
    assert moving > 10, "or nothing has been shown"
    assert found >= SHARE * moving


def test_fewer_bits_on_the_device_than_in_the_file_are_found() -> None:
    """What a provider does that computes in bfloat16 without being asked."""
    contract = CONTRACTS[0]
    model = as_model(sure_network(contract), contract)
    rounded = in_bfloat16(model)
    with Runner(rounded, SessionRequest("cpu")) as runner:
        assert not run_golden_test(runner).passed
