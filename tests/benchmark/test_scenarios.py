from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel

from ct3d_edge.benchmark.scenarios import RunCount, SweepConfiguration, measure_sweep, sweep_configurations
from ct3d_edge.contract import Contract
from ct3d_edge.errors import ProviderError
from ct3d_edge.latency.measure import Samples, StopCriterion
from ct3d_edge.latency.record import PartialResultError
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner


def test_every_number_of_threads_meets_every_batch() -> None:
    found = sweep_configurations([1, 2], [1, 4])
    assert [(entry.threads, entry.batch) for entry in found] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert found[3].name == "threads 2, batch 4"


def test_what_is_not_swept_stays_as_it_is() -> None:
    assert sweep_configurations([], [2]) == (SweepConfiguration(None, 2),)
    assert sweep_configurations([3], []) == (SweepConfiguration(3, 1),)
    assert sweep_configurations([], [2])[0].name == "batch 2"


def opened(path: Path, threads: int | None) -> Runner:
    return Runner(load_model_file(path), SessionRequest("cpu", threads=threads))


def test_each_configuration_has_its_threads_and_its_batch(make_model: MakeModel, contract: Contract) -> None:
    path, seen = make_model(), []

    class Watched(Runner):
        def infer(self, volumes: np.ndarray) -> np.ndarray:
            seen.append((self.run_report.threads, len(volumes)))
            return super().infer(volumes)

    volumes = np.zeros((2, *contract.shape), np.float32)
    record = measure_sweep(
        lambda threads: Watched(load_model_file(path), SessionRequest("cpu", threads=threads)),
        volumes,
        sweep_configurations([1, 2], [1, 5]),
        RunCount(3, StopCriterion()),
        conditions={},
    )
    assert list(dict.fromkeys(seen)) == [(1, 1), (1, 5), (2, 1), (2, 5)]
    assert all(len(samples) == 3 for samples in record.samples.counted.values())


def test_configurations_before_a_failure_are_kept(make_model: MakeModel, contract: Contract) -> None:
    path = make_model()

    def open_runner(threads: int | None) -> Runner:
        if threads == 2:
            raise ProviderError("no more memory")
        return opened(path, threads)

    volumes = np.zeros((1, *contract.shape), np.float32)
    with pytest.raises(PartialResultError) as caught:
        measure_sweep(
            open_runner, volumes, sweep_configurations([1, 2], []), RunCount(4, StopCriterion()), conditions={}
        )
    assert caught.value.record.incomplete == "no more memory"
    assert list(caught.value.record.samples.counted) == ["threads 1, batch 1"]


def test_a_number_of_threads_that_the_provider_does_not_keep_to_is_not_measured(
    make_model: MakeModel, contract: Contract
) -> None:
    file, options = load_model_file(make_model()), parse_options("cpu", ("intra_op_num_threads=1",))
    with pytest.raises(PartialResultError) as caught:
        measure_sweep(
            lambda threads: Runner(file, SessionRequest("cpu", threads=threads, options=options)),
            np.zeros((1, *contract.shape), np.float32),
            sweep_configurations([1, 2], []),
            RunCount(3, StopCriterion()),
            conditions={},
        )
    assert "threads=2 cannot be measured: cpu runs with 1 here" in str(caught.value)
    assert list(caught.value.record.samples.counted) == ["threads 1, batch 1"]


def samples(count: int) -> Samples:
    return Samples({}, {"infer": (1.0,) * count})


def test_a_plan_that_is_kept_falls_short_of_nothing() -> None:
    assert RunCount(5, StopCriterion()).shortfall(samples(5)) is None
    assert RunCount(5, StopCriterion(precision=0.1)).shortfall(samples(50)) is None


def test_a_plan_that_ran_out_of_time_says_how_far_it_came() -> None:
    assert (
        RunCount(5, StopCriterion(budget_s=2)).shortfall(samples(3))
        == "the time budget of 2 s was spent after 3 of 5 runs"
    )
