"""An open model that predicts scans: the main class of the library."""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import parse_size
from ct3d_edge.inference.config import InferenceConfig, ModelSessions, resolve_model
from ct3d_edge.inference.gradcam_maps import GradcamMaker, GradcamMap
from ct3d_edge.inference.predict import NO_RECORDS, ScanResult, find_model_flags, predict_batch, raise_if_failed
from ct3d_edge.inference.predict_many import MemoryEstimate, Schedule, make_schedule, predict_scans
from ct3d_edge.inference.prepare import (
    PreparedScan,
    ScanInput,
    ScanSource,
    prepare_source,
    require_several_scans,
    to_source,
)
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file, parse_model_file
from ct3d_edge.modelfile.tensor_memory import count_input_bytes, estimate_run_bytes
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord, ScanFailure, Timing
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.run_report import RunReport
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import count_usable_cores


class Model:
    """An open model; made by `load_model`.

    A context manager; its end, like `close`, releases the memory of the network. Use a model from one thread at a time;
    within a call it uses all cores.
    """

    def __init__(
        self,
        file: ModelFile,
        request: SessionRequest,
        config: InferenceConfig,
        *,
        tuned_threads: int | None = None,
    ) -> None:
        self._file, self._request, self._config, self._model_flags = file, request, config, find_model_flags(file)
        self._threads = (request.options.threads if request.options else None) or request.threads
        self._tuned_threads = tuned_threads
        self._gradcam = GradcamMaker(file) if request.gradcam else None
        self._sessions = ModelSessions(file, replace(request, threads=self._threads or tuned_threads))
        self.search_flags: Mapping[str, Collection[QCFlag]] = {}
        """Quality flags that a search gave to scans: `DiscoveredScans.flags`. They become part of their records."""

    def __enter__(self) -> Self:
        self._sessions.require_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the sessions and their memory, also those of unfinished iterators of `predict_many`.

        Predictions raise `UsageError` afterwards; ``contract`` and ``run_report`` remain. Closing twice is allowed.
        """
        self._sessions.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens a session of its own, of the same bytes."""
        make = partial(Model, tuned_threads=self._tuned_threads)
        return make, (self._file, self._request, self._config), {"search_flags": dict(self.search_flags)}

    @property
    def file(self) -> ModelFile:
        """The model file that runs: the given one, or the one that a tuning chose."""
        return self._file

    @property
    def contract(self) -> Contract:
        """The model's preprocessing and labels."""
        return self.runner.contract

    @property
    def run_report(self) -> RunReport:
        """The provider that runs the network, and its settings."""
        return self.runner.run_report

    @property
    def runner(self) -> Runner:
        """The open session."""
        return self._sessions.current

    def predict(self, scan: ScanInput) -> ResultRecord:
        """Predict one scan.

        Parameters
        ----------
        scan
            Path of a NIfTI, MetaImage or NRRD file, or of a DICOM series (its folder, ``folder/SERIES-UID``, or
            one of its files); or a `Volume`; or an array ``(i, j, k)`` of HU, any integer
            or real dtype. An array has no orientation: ``LAS`` is assumed, with the quality flag ``no_orientation``. A
            `Volume` with an affine has one.

        Returns
        -------
        ResultRecord
            With its ``prediction`` set.

        Raises
        ------
        UnreadableScanError, RefusedScanError
            If there is no prediction; ``code`` and message as in the records of `predict_many`.
        ProviderError
            If the session fails.
        """
        self._sessions.ensure(self._threads or self._tuned_threads or count_usable_cores())
        checker = self.make_checker()
        prepared = prepare_source(to_source(scan), self.contract, checker=checker)
        record = predict_batch([prepared], self.runner, self._model_flags, checker)[0].record
        raise_if_failed(record)
        return record

    def run_network(self, volumes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Output ``(N, contract.outputs)`` of the network for `preprocess`ed inputs ``(N, *contract.shape)``.

        Without quality checks, activation and temperature. On the CPU several threads may call it at the same time.

        Raises
        ------
        ModelError
            If the shape or dtype is not the contract's.
        ProviderError
            If the session fails.
        """
        self._sessions.require_open()
        return self.runner.run_network(volumes)

    def predict_many(
        self,
        scans: Iterable[ScanInput],
        *,
        workers: int | None = None,
        batch_size: int = 1,
        max_memory: int | str | None = None,
        scan_timeout: float | None = None,
    ) -> Iterator[ResultRecord]:
        """Predict scans in parallel; their records come in the order of the scans, each as soon as it is complete.

        A scan that cannot be read or predicted has a record with a ``failure``; other scans are not affected. Some
        scans are prefetched. Closing the iterator cancels them.

        Parameters
        ----------
        scans
            Each as `predict` takes it; for folders, see `find_scans`. An iterator is advanced when its next scan
            starts, so that arrays need not be in memory all at once.
        workers
            Scans in parallel; as many as cores and memory allow if None.
        batch_size
            Scans in one run of the network. More than one helps on a GPU only.
        max_memory
            Memory limit of the scans in progress: bytes, or a text such as ``"2GB"`` or ``"1.5 GiB"``; half of the
            available memory if None.
        scan_timeout
            Time limit of a scan in seconds, then the failure ``timeout``; no limit if None.

        Raises
        ------
        UsageError
            If ``workers``, ``batch_size`` or ``scan_timeout`` are not positive, the scans in progress need more than
            ``max_memory``, or the model was closed.
        ProviderError
            If the session fails.
        """
        require_several_scans(scans)
        if scan_timeout is not None and not scan_timeout > 0:
            raise UsageError(f"`scan_timeout` must be above 0 s, found `scan_timeout={scan_timeout}`.")
        count = len(scans) if isinstance(scans, Sequence) else None
        schedule = self.make_schedule(count, workers=workers, batch_size=batch_size, max_memory=max_memory)
        return (
            analysis.record for analysis in self.iter_results(map(to_source, scans), schedule, timeout_s=scan_timeout)
        )

    def make_schedule(
        self,
        scans: int | None = None,
        *,
        workers: int | None = None,
        batch_size: int = 1,
        max_memory: int | str | None = None,
    ) -> Schedule:
        """The schedule for that many scans; opens a session for it. See `predict_many`."""
        on_cpu, shape = self.run_report.actual == "cpu", self.contract.shape

        def estimate() -> MemoryEstimate:
            return MemoryEstimate(count_input_bytes(shape), estimate_run_bytes(self._file.data, shape), on_cpu)

        schedule = make_schedule(estimate, scans, workers=workers, batch=batch_size, max_memory=parse_size(max_memory))
        tuned = self._tuned_threads if scans == 1 else None
        schedule = replace(schedule, threads=self._threads or tuned or schedule.threads)
        self._sessions.ensure(schedule.threads, 1 if on_cpu else schedule.batch)
        return schedule

    def iter_results(
        self,
        scans: Iterable[ScanSource],
        schedule: Schedule,
        *,
        known_records: Mapping[str, ResultRecord] = NO_RECORDS,
        timeout_s: float | None = None,
        checker: QualityChecker | None = None,
    ) -> Generator[ScanResult, None, None]:
        """Records with their network inputs; see `ct3d_edge.inference.predict_many.predict_scans`.

        Give the ``checker`` of earlier calls to flag duplicates of their scans too.
        """
        self._sessions.require_open()
        checker = checker or self.make_checker()
        return predict_scans(
            scans,
            self.runner,
            schedule,
            model_flags=self._model_flags,
            known_records=known_records,
            timeout_s=timeout_s,
            checker=checker,
        )

    def make_failed_result(self, scan: Path, failure: ScanFailure) -> ScanResult:
        """The result of a scan that no process finished."""
        prepared = PreparedScan(str(scan), None, None, ("error", failure), (), Timing())
        return predict_batch([prepared], self.runner, self._model_flags, self.make_checker())[0]

    def compute_gradcam_map(self, analysis: ScanResult) -> GradcamMap | None:
        """The Grad-CAM map of a result; None without a prediction, or if the model was opened without ``gradcam``."""
        return self._gradcam.compute_map(analysis) if self._gradcam else None

    def recompute(self, record: ResultRecord, timeout_s: float | None = None) -> ScanResult:
        """The result of a record of an earlier run: the network input and features, computed again.

        Raises
        ------
        UnreadableScanError, RefusedScanError
            If the scan cannot be predicted this time; ``timeout`` after ``timeout_s``.
        """
        schedule = Schedule(0, False, self.run_report.threads or 1, 0, 1)
        (analysis,) = self.iter_results([Path(record.scan)], schedule, timeout_s=timeout_s)
        raise_if_failed(analysis.record)
        return replace(analysis, record=record)

    def make_checker(self) -> QualityChecker:
        """A quality checker for the scans of one run."""
        return QualityChecker(
            self.contract,
            self._config.allow,
            include_phi=self._config.include_phi,
            search_flags=self.search_flags,
        )


def open_model(path: Path | None, config: InferenceConfig) -> Model:
    """`ct3d_edge.load_model` with the settings in one object."""
    resolved = resolve_model(path, config)
    return Model(load_model_file(resolved.path), resolved.request, config, tuned_threads=resolved.tuned_threads)


def open_model_bytes(path: Path, data: bytes, config: InferenceConfig) -> Model:
    """`open_model` for the bytes of a file that is not on this machine; no tuning is followed, `path` names it."""
    return Model(parse_model_file(path, data), config.session(), config)
