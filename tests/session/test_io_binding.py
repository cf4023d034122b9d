"""Buffers on the CPU stand in for those on a GPU: ONNX Runtime binds both by the same calls."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import pytest
from builders import tiny_proto
from numpy.typing import NDArray
from products import each_value

from ct3d_edge.contract import Contract
from ct3d_edge.session.session import IoBinding


def session(contract: Contract) -> ort.InferenceSession:
    return ort.InferenceSession(tiny_proto(contract).SerializeToString(), providers=["CPUExecutionProvider"])


def bound(contract: Contract, batch: int) -> IoBinding:
    shape = contract.input_shape
    return IoBinding(session(contract), "volume", shape, {"probability": contract.outputs}, batch, ("cpu", 0))


def run(binding: IoBinding, volumes: NDArray[np.float32], batch: int) -> list[NDArray[np.float32]]:
    """Outputs of any number of volumes, as `Runner` cuts them."""
    parts = [binding.run(volumes[start : start + batch]) for start in range(0, len(volumes), batch)]
    return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


@pytest.mark.parametrize(("batch", "number"), each_value([1, 2, 3, 8], [1, 3, 5]))
def test_bound_buffers_answer_as_arrays_do(contract: Contract, batch: int, number: int) -> None:
    volumes = np.random.default_rng(0).random((number, *contract.input_shape), np.float32)
    (expected,) = session(contract).run(["probability"], {"volume": volumes})
    (found,) = run(bound(contract, batch), volumes, batch)
    assert found.shape == (number, 1)
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(np.unique(expected)) == number


def test_nothing_of_an_earlier_run_is_left_in_a_later_one(contract: Contract) -> None:
    binding = bound(contract, 2)
    volumes = np.random.default_rng(0).random((3, *contract.input_shape), np.float32)
    (first,) = run(binding, volumes, 2)
    kept = first.copy()
    assert binding.run(volumes[:1])[0] == pytest.approx(first[:1], abs=1e-6)
    run(binding, 1 - volumes, 2)
    assert np.array_equal(first, kept), "an answer is a copy, not the buffer"


def test_a_part_of_a_larger_array_may_lie_in_any_order(contract: Contract) -> None:
    volumes = np.asfortranarray(np.random.default_rng(0).random((2, *contract.input_shape), np.float32))
    (expected,) = run(bound(contract, 1), np.ascontiguousarray(volumes), 1)
    assert bound(contract, 2).run(volumes)[0] == pytest.approx(expected, abs=1e-6)


def test_threads_do_not_write_into_each_others_buffers(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    binding = bound(contract, 2)
    volumes = np.random.default_rng(0).random((24, *contract.input_shape), np.float32)
    (expected,) = run(binding, volumes, 2)
    run_bound = binding._session.run_with_iobinding

    def hesitant(bound: object) -> None:
        time.sleep(0.005)  # long enough for another thread to come in between
        run_bound(bound)

    monkeypatch.setattr(binding._session, "run_with_iobinding", hesitant)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: binding.run(volumes[number : number + 1])[0][0], range(24)))
    assert np.array(found) == pytest.approx(expected, abs=1e-6)
