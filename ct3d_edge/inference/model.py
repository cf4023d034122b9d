"""The library's door: a model file that answers scans."""

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScanError, ScanError, UnreadableScanError, UsageError
from ct3d_edge.formatting import parse_size
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.gradcam_maps import GradcamMaker, GradcamMap
from ct3d_edge.inference.predict import NO_RECORDS, ScanResult, predict_batch
from ct3d_edge.inference.predict_many import predict_scans
from ct3d_edge.inference.prepare import ScanSource, prepare_source
from ct3d_edge.inference.schedule import MemoryEstimate, Schedule, make_schedule
from ct3d_edge.modelfile.memory_estimate import count_input_bytes, estimate_run_bytes
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.preprocessing import ASSUMED_ORIENTATION_FLAG
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.run_report import RunReport
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import count_usable_cores

ScanPath = str | os.PathLike[str]
ScanInput = ScanPath | Volume | NDArray[Any]


class Model:
    """An open model; made by `load_model`.

    A context manager, and `close` does the same, so that the memory of a large network can be given back at once. One
    model serves one thread; within a call it uses the cores by itself.
    """

    def __init__(
        self,
        file: ModelFile,
        request: SessionRequest,
        config: InferenceConfig,
        *,
        tuned_threads: int | None = None,
        notes: tuple[QCFlag, ...] = (),
    ) -> None:
        self._file, self._request, self._config, self._notes = file, request, config, notes
        self._threads = (request.options.threads if request.options else None) or request.threads
        self._tuned_threads = tuned_threads
        self._gradcam = GradcamMaker(file) if request.gradcam else None
        self._runner = Runner(file, replace(request, threads=self._threads or tuned_threads))
        self._runners = WeakSet([self._runner])
        self._closed = False

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the sessions and their memory, also of iterators that `predict_many` gave and that are not done.

        What the model is asked for afterwards is a `UsageError`; ``contract`` and ``run_report`` stay. Closing it again
        changes nothing.
        """
        self._closed = True
        for runner in self._runners:
            runner.close()

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError(f"The model {self._file.path} was closed. Open it again with load_model.")

    @property
    def contract(self) -> Contract:
        """What the model expects of a scan, and what its answers mean."""
        return self._runner.contract

    @property
    def run_report(self) -> RunReport:
        """Which provider does the work, and how."""
        return self._runner.run_report

    def predict(self, scan: ScanInput) -> ResultRecord:
        """Judge one scan.

        Parameters
        ----------
        scan
            Path of a .nii, .nii.gz, .hdr or .img file, or of a DICOM series (its folder, ``folder/SERIES-UID``, or
            one of its files); or a `Volume`; or an array ``(i, j, k)`` of HU, any integer
            or real dtype. An array does not say how the patient lies in it: ``LAS`` is assumed, with the quality flag
            ``no_orientation``. A `Volume` with an affine does.

        Returns
        -------
        Record
            With its ``prediction`` set.

        Raises
        ------
        UnreadableScanError, RefusedScanError
            If there is no answer; ``code`` and message as in the records of `predict_many`.
        ProviderError
            If the session fails.
        """
        self._fit(self._threads or self._tuned_threads or count_usable_cores())
        checker = self.checker()
        reading = prepare_source(_to_source(scan), self.contract, checker=checker)
        record = predict_batch([reading], self._runner, self._notes, checker)[0].record
        _raise_if_failed(record)
        return record

    def predict_many(
        self,
        scans: Iterable[ScanInput],
        *,
        workers: int | None = None,
        batch_size: int = 1,
        max_memory: int | str | None = None,
        scan_timeout: float | None = None,
    ) -> Iterator[ResultRecord]:
        """Judge scans side by side; their records come in the order of the scans, each as soon as it is there.

        A scan that cannot be read or predicted gets a record with a ``failure``, and costs no other its answer. A few
        scans are begun ahead of the one asked for. Closing the iterator drops them.

        Parameters
        ----------
        scans
            Each as `predict` takes it. Folders are for `find_scans`. An iterator is asked for a scan when it is begun,
            so that arrays need not be in memory all at once.
        workers
            Scans worked on at the same time; as many as cores and memory allow if None.
        batch_size
            Scans in one run of the network. More than one helps on a GPU only.
        max_memory
            What the scans in flight may take: bytes, or a text such as ``"2GB"`` or ``"1.5 GiB"``; half of the
            available memory if None.
        scan_timeout
            Seconds after which a scan is given up, with the failure ``timeout``; never if None.

        Raises
        ------
        UsageError
            If there can be no such plan: no worker, no time, or a batch larger than the budget; or the model was
            closed.
        ProviderError
            If the session fails.
        """
        _refuse_single_scan(scans)
        if scan_timeout is not None and not scan_timeout > 0:
            raise UsageError(f"A scan needs some time, found scan_timeout={scan_timeout}.")
        count = len(scans) if isinstance(scans, Sequence) else None
        plan = self.plan(count, workers=workers, batch_size=batch_size, max_memory=max_memory)
        return (analysis.record for analysis in self.iter_results(map(_to_source, scans), plan, seconds=scan_timeout))

    def plan(
        self,
        scans: int | None = None,
        *,
        workers: int | None = None,
        batch_size: int = 1,
        max_memory: int | str | None = None,
    ) -> Schedule:
        """How that many scans would be worked through, and have the session fit it; see `predict_many`."""
        on_cpu = self.run_report.actual == "cpu"
        needs = MemoryEstimate(count_input_bytes(self._file), estimate_run_bytes(self._file), on_cpu)
        plan = make_schedule(needs, scans, workers=workers, batch=batch_size, budget=parse_size(max_memory))
        tuned = self._tuned_threads if scans == 1 else None
        plan = replace(plan, threads=self._threads or tuned or plan.threads)
        self._fit(plan.threads, 1 if on_cpu else plan.batch)
        return plan

    def iter_results(
        self,
        scans: Iterable[ScanSource],
        plan: Schedule,
        *,
        known: Mapping[str, ResultRecord] = NO_RECORDS,
        seconds: float | None = None,
        checker: QualityChecker | None = None,
    ) -> Generator[ScanResult, None, None]:
        """Records with the network inputs they were made from; see `ct3d_edge.inference.predict_many.predict_scans`.

        The ``checker`` of earlier calls makes this one go on with their run: scans that come twice are told.
        """
        self._require_open()
        checker = checker or self.checker()
        return predict_scans(
            scans, self._runner, plan, notes=self._notes, known=known, seconds=seconds, checker=checker
        )

    def compute_gradcam_map(self, analysis: ScanResult) -> GradcamMap | None:
        """What speaks for an answer, and where; None if there is no answer, or the model was opened without it."""
        return self._gradcam.explain(analysis) if self._gradcam else None

    def recompute(self, record: ResultRecord, seconds: float | None = None) -> ScanResult:
        """A record of an earlier run with what was not kept of it: the network's input and features.

        Raises
        ------
        UnreadableScanError, RefusedScanError
            If the scan gives no answer this time; ``timeout`` after ``seconds``.
        """
        plan = Schedule(0, False, self.run_report.threads or 1, 0, 1)
        (analysis,) = self.iter_results([Path(record.scan)], plan, seconds=seconds)
        _raise_if_failed(analysis.record)
        return replace(analysis, record=record)

    def checker(self) -> QualityChecker:
        """What checks the scans of one run."""
        return QualityChecker(self.contract, self._config.allow, include_phi=self._config.include_phi)

    def _fit(self, threads: int, batch: int = 1) -> None:
        """Have a session of that kind; who still uses the last one keeps it."""
        self._require_open()
        current = self.run_report
        if (current.threads or threads, current.batch or 1) != (threads, batch):
            self._runner = Runner(self._file, replace(self._request, threads=threads, batch=batch))
            self._runners.add(self._runner)


def _to_source(scan: ScanInput) -> ScanSource:
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, np.ndarray):
        return Volume(scan, flags=(ASSUMED_ORIENTATION_FLAG,))
    return Path(scan)


def _refuse_single_scan(scans: object) -> None:
    """What can be iterated, but is one scan: a name's letters, an array's slices."""
    if isinstance(scans, str | os.PathLike):
        raise UsageError(f"predict_many takes several paths; give {scans} to predict, or to find_scans first.")
    if isinstance(scans, Volume) or (isinstance(scans, np.ndarray) and scans.ndim < 4):
        raise UsageError("predict_many takes several scans; give one to predict, or in a list.")


def _raise_if_failed(record: ResultRecord) -> None:
    if record.failure is not None:
        kind: type[ScanError] = RefusedScanError if record.status == "refused" else UnreadableScanError
        raise kind(record.failure.code, record.failure.message)
