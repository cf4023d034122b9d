"""Predict scans on a Ray cluster: the driver hands out paths, and one worker process per GPU or N cores predicts.

Ray Core, not Ray Data: each scan has exactly one record, also one that kills its worker (docs/scale.md).
"""

import logging
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ct3d_edge.cluster.machines import Machines, is_alive, require_visible_there
from ct3d_edge.cluster.ray_session import ray_session
from ct3d_edge.cluster.ray_worker import PredictionWorker, WorkerReady, WorkerTask, failed_record
from ct3d_edge.cluster.task_queue import TaskQueue
from ct3d_edge.errors import Ct3dError, ProviderError, UsageError
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.predict import NO_RECORDS
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.results.record import ResultRecord, ScanFailure
from ct3d_edge.scan.qc_flag import QCFlag

LOGGER = logging.getLogger(__name__)

RAY_MODULES = ("ray",)
"""What the extra `ray` brings."""

GPU_PROVIDERS = ("cuda", "tensorrt", "nv-tensorrt-rtx")

NODES_INTERVAL_S = 5.0
"""Between looks at which machines have joined or left."""

WAIT_S = 1.0
"""Longest wait for a result before the clock is looked at."""

SLOW_SCAN_S = 120.0
"""A scan that takes longer is named once."""

HANG_GRACE_S = 30.0
"""Seconds beyond its time limit after which the process of a scan is killed."""

START_WAIT_S = 60.0
"""After which a worker that has not started is reported once: other jobs may hold the cores."""


@dataclass(eq=False)
class _Worker:
    """A Ray actor, the machine it is pinned to, and what it does."""

    actor: Any
    node: str
    host: str
    ready: WorkerReady | None = None
    scan: str | None = None
    begun: float = field(default_factory=time.monotonic)
    reported: bool = False


class RayEngine:
    """Predicts scans with the workers of a cluster.

    Parameters
    ----------
    model
        The model file; it is sent once to each machine and verified there.
    config
        Settings of inference. A tuning is not followed: it holds for one machine.
    inputs
        Files, folders and URLs that every machine must see.
    address
        Of a running cluster, as `ray.init` takes it; None starts Ray on this machine.
    cpus_per_worker
        Cores of a worker; a worker with a GPU provider has one GPU instead.
    scan_timeout
        Time limit of a scan in seconds; no limit if None.
    search_flags
        Quality flags that the search gave to scans; they become part of their records.
    """

    worker_class: type = PredictionWorker
    """What each worker process runs."""

    def __init__(
        self,
        model: ModelFile,
        config: InferenceConfig,
        inputs: Sequence[str],
        *,
        address: str | None = None,
        cpus_per_worker: int = 1,
        scan_timeout: float | None = None,
        search_flags: Mapping[str, Collection[QCFlag]] = MappingProxyType({}),
    ) -> None:
        gpu = config.provider in GPU_PROVIDERS
        threads = config.threads or (None if gpu else cpus_per_worker)
        settings = replace(config, use_tuning=False, threads=threads)
        self._task = WorkerTask(
            str(model.path),
            model.sha256,
            settings,
            tuple(inputs),
            str(Path.cwd()),
            scan_timeout,
            dict(search_flags),
            version("ct3d-edge"),
        )
        self._data, self._address, self._timeout = model.data, address, scan_timeout
        self._resource, self._amount = ("GPU", 1) if gpu else ("CPU", cpus_per_worker)
        self._machines = Machines(self._resource, self._amount)
        self._pending: dict[Any, _Worker] = {}
        self._template: ResultRecord | None = None

    def results(
        self, scans: Sequence[str], known_records: Mapping[str, ResultRecord] = NO_RECORDS
    ) -> Generator[ResultRecord, None, None]:
        """Yield the record of each scan as soon as it is there, in the order of completion. Call it once.

        Parameters
        ----------
        known_records
            Of an earlier run; a worker returns one if scan, model and settings are unchanged.

        Raises
        ------
        ProviderError
            There is no such cluster, or no machine of it can take part.
        """
        with ray_session(self._address):
            import ray

            self._model_reference = ray.put(self._data)
            try:
                yield from self._run(TaskQueue(scans), known_records)
            finally:
                for worker in self._pending.values():
                    ray.kill(worker.actor)

    def _run(self, queue: TaskQueue[_Worker], known: Mapping[str, ResultRecord]) -> Iterator[ResultRecord]:
        import ray

        look_again = 0.0
        while not queue.is_empty:
            if time.monotonic() >= look_again:
                self._add_workers(queue)
                look_again = time.monotonic() + NODES_INTERVAL_S
            if not self._pending:
                self._machines.require_any()
                time.sleep(WAIT_S)
                continue
            done, _ = ray.wait(list(self._pending), num_returns=1, timeout=WAIT_S)
            for reference in done:
                yield from self._complete(reference, self._pending.pop(reference), queue, known)
            yield from self._end_overdue(queue)

    def _add_workers(self, queue: TaskQueue[_Worker]) -> None:
        """Fill every machine of the cluster, also those that joined during the run."""
        wanted = queue.waiting + sum(worker.scan is not None for worker in self._pending.values())
        for machine in self._machines.list_usable():
            identity = machine["NodeID"]
            here = sum(worker.node == identity for worker in self._pending.values())
            for _ in range(min(self._machines.count_slots(machine) - here, wanted - len(self._pending))):
                self._start_worker(identity, machine["NodeManagerHostname"])

    def _start_worker(self, node: str, host: str) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {"num_gpus": 1, "num_cpus": 0} if self._resource == "GPU" else {"num_cpus": self._amount}
        actor = (
            ray.remote(self.worker_class)
            .options(**asked, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            .remote(self._task)
        )
        self._pending[actor.start.remote(self._model_reference)] = _Worker(actor, node, host)

    def _complete(
        self, reference: Any, worker: _Worker, queue: TaskQueue[_Worker], known: Mapping[str, ResultRecord]
    ) -> Iterator[ResultRecord]:
        """Take the result of a worker and give it the next scan; or note why there is none."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        try:
            value = ray.get(reference)
            if isinstance(value, ResultRecord):
                require_visible_there(value)
        except RayTaskError as error:
            yield from self._handle_error(worker, queue, error.cause)
        except UsageError as error:
            yield from self._handle_error(worker, queue, error)
        except RayActorError as error:
            yield from self._replace_dead(worker, queue, error)
        else:
            if isinstance(value, WorkerReady):
                worker.ready = value
                self._template = self._template or value.failed
                LOGGER.info("worker ready: process %d on %s, provider %s", value.pid, worker.host, value.failed.actual)
            else:
                queue.finish(worker)
                self._machines.forget_failed_scans(worker.node)
                yield value
            self._give_scan(worker, queue, known)

    def _give_scan(self, worker: _Worker, queue: TaskQueue[_Worker], known: Mapping[str, ResultRecord]) -> None:
        import ray

        worker.scan, worker.begun, worker.reported = queue.assign(worker), time.monotonic(), False
        if worker.scan is None:
            ray.kill(worker.actor)  # its cores may serve others
            return
        assert worker.ready is not None, "only a ready worker is given scans"  # noqa: S101
        LOGGER.debug("process %d on %s: %s", worker.ready.pid, worker.host, worker.scan)
        self._pending[worker.actor.predict.remote(worker.scan, known.get(worker.scan))] = worker

    def _handle_error(self, worker: _Worker, queue: TaskQueue[_Worker], cause: BaseException) -> Iterator[ResultRecord]:
        """Leave out a machine that cannot work; a session that fails counts against its scan first.

        A machine on which the session fails for two scans in a row is left out, too. An error that is not for the user
        is a bug and raised.
        """
        import ray

        if not isinstance(cause, Ct3dError):
            raise cause
        ray.kill(worker.actor)
        scan = worker.scan
        if scan is None or not isinstance(cause, ProviderError):
            queue.lose(worker, scan_may_be_the_cause=False)
            self._machines.exclude(worker.node, worker.host, str(cause))
            return
        LOGGER.warning("the session on %s failed for %s: %s", worker.host, scan, cause)
        if queue.lose(worker) is not None:
            yield self._make_failed_record(scan, ScanFailure("worker_died", f"Two sessions failed for it: {cause}"))
        if self._machines.count_failed_scan(worker.node, worker.host, scan, str(cause)):
            self._start_worker(worker.node, worker.host)

    def _replace_dead(self, worker: _Worker, queue: TaskQueue[_Worker], error: BaseException) -> Iterator[ResultRecord]:
        """A worker has ended early: another takes its place at the next look, and its scan waits again."""
        if worker.scan is None:
            self._machines.count_start_failure(worker.node, worker.host, error)
            return
        LOGGER.warning("a worker on %s ended early while it had %s", worker.host, worker.scan)
        given_up = queue.lose(worker, scan_may_be_the_cause=is_alive(worker.node))
        if given_up is not None:
            yield self._make_failed_record(given_up)
        if is_alive(worker.node):
            self._start_worker(worker.node, worker.host)

    def _end_overdue(self, queue: TaskQueue[_Worker]) -> Iterator[ResultRecord]:
        """Name scans that take long, and end processes that hang beyond the time limit."""
        import ray

        for reference, worker in list(self._pending.items()):
            seconds = time.monotonic() - worker.begun
            if worker.scan is None:
                if seconds > START_WAIT_S and not worker.reported:
                    worker.reported = True
                    LOGGER.warning("no worker on %s after %.0f s: others may hold its cores", worker.host, seconds)
                continue
            if seconds > SLOW_SCAN_S and not worker.reported:
                worker.reported = True
                LOGGER.warning("%s has taken %.0f s so far on %s", worker.scan, seconds, worker.host)
            if self._timeout is not None and seconds > self._timeout + HANG_GRACE_S:
                del self._pending[reference]
                ray.kill(worker.actor)
                failure = ScanFailure("timeout", f"It was not finished within {self._timeout:g} s.")
                yield self._make_failed_record(queue.finish(worker), failure)

    def _make_failed_record(self, scan: str, failure: ScanFailure | None = None) -> ResultRecord:
        assert self._template is not None, "only a ready worker is given scans"  # noqa: S101
        return failed_record(self._template, scan, failure)
