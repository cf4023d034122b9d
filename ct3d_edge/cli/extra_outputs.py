"""What ``infer`` writes of a scan besides its record: maps, pictures, page, structured reports.

None of it may cost a record, or end the run: what cannot be written of a scan becomes a quality flag of that scan.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ct3d_edge.cli.terminal import log
from ct3d_edge.errors import OutputError, UnreadableScanError, UsageError
from ct3d_edge.inference.prepare import run_guarded
from ct3d_edge.scan.qc_flag import QCFlag

if TYPE_CHECKING:
    from ct3d_edge.cli.infer_options import InferRun
    from ct3d_edge.inference.gradcam_maps import GradcamMap
    from ct3d_edge.inference.model import Model
    from ct3d_edge.inference.predict import ScanResult
    from ct3d_edge.report.montage import Montage
    from ct3d_edge.report.page import ReportPage
    from ct3d_edge.results.record import ResultRecord, ScanFailure

MAX_NAME_BYTES = 200
"""Bytes of a name without number and ending; file systems take 255 in all."""


FileNames = Callable[[Path], str]
"""Gives the files that are written of a scan their common name."""


def names_below(folder: Path) -> FileNames:
    """Names of scans below a folder that stay the same whatever else lies there: with a hash of the path."""

    def name(scan: Path) -> str:
        path = scan.relative_to(folder) if scan.is_relative_to(folder) else scan
        return f"{_base_name(scan)}-{sha256(os.fsencode(path)).hexdigest()[:8]}"

    return name


def unique_names(scans: Iterable[Path]) -> dict[Path, str]:
    """The scans' file names without their endings; of several that are the same, the later ones are numbered."""
    taken: set[str] = set()
    names: dict[Path, str] = {}
    for scan in scans:
        name = _base_name(scan)
        numbered = (f"{name}-{number}" for number in count(2))
        names[scan] = next(name for name in chain([name], numbered) if name.lower() not in taken)
        taken.add(names[scan].lower())
    return names


def _base_name(scan: Path) -> str:
    from ct3d_edge.scan.discovery import scan_name

    name = scan_name(scan) or scan.resolve().name or "scan"  # "." is a series, too
    while len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = name[:-1]
    return name


class MontageOutput:
    """Slices of each scan that is predicted now."""

    option = "--montage"

    def __init__(self, montage: "Montage") -> None:
        self._montage = montage
        self.path, self.written = montage.path, 0

    def needs_network_input(self, record: "ResultRecord") -> bool:  # noqa: ARG002
        """No: a scan with a known record is not drawn."""
        return False

    def add(self, analysis: "ScanResult", explanation: "GradcamMap | None") -> None:  # noqa: ARG002
        """Add the scan's strip."""
        if analysis.model_input:
            self._montage.add(analysis.record, analysis.model_input.volume)

    def save(self, records: "Sequence[ResultRecord]") -> None:  # noqa: ARG002
        """Write the picture, if there is anything to draw."""
        if self._montage.scans:
            self._montage.save()
            self.written = self._montage.scans
        else:
            log(
                f"{self.option}: no scan was predicted in this run, so there is nothing to draw; "
                f"{self.path} not written"
            )


class HtmlReportOutput:
    """Every scan with its slices and, where there is one, its map."""

    option = "--report"

    def __init__(self, page: "ReportPage", run_report: dict[str, Any]) -> None:
        self._page, self._run_report = page, run_report
        self.path, self.written = page.path, 0

    def needs_network_input(self, record: "ResultRecord") -> bool:  # noqa: ARG002
        """Yes: the page shows slices of all."""
        return True

    def add(self, analysis: "ScanResult", explanation: "GradcamMap | None") -> None:
        """Add the scan, with pictures if there are any."""
        volume = analysis.model_input.volume if analysis.model_input else None
        overlay = explanation.to_network_grid() if explanation else None
        self._page.add(analysis.record, volume, overlay, explanation.label if explanation else "")

    def save(self, records: "Sequence[ResultRecord]") -> None:
        """Write the page, which also lists scans without a prediction."""
        self._page.save(records, self._run_report)
        self.written = len(records)


OUTPUT_FAILED_CODE = "auxiliary_output_failed"
"""Of the quality flag; its value is the option that asked for what is missing."""


class ExtraOutput(Protocol):
    """One kind of output, made of all scans of a run."""

    option: str
    """By which it was asked for."""

    path: Path
    """The file or folder that it writes."""

    written: int
    """Scans of which something was written so far."""

    def needs_network_input(self, record: "ResultRecord") -> bool:
        """Whether the network's input is needed, also of a scan whose record was taken over."""

    def add(self, analysis: "ScanResult", explanation: "GradcamMap | None") -> None:
        """Write what there is of one scan.

        Raises
        ------
        ScanError, UsageError
            If that cannot be done.
        """

    def save(self, records: "Sequence[ResultRecord]") -> None:
        """Write what shows all scans at once.

        Raises
        ------
        UsageError
            If it cannot be written.
        """


class ExtraOutputs:
    """All that a run writes besides its records.

    Parameters
    ----------
    model
        What predicted the scans.
    outputs
        What was asked for.
    seconds
        How long reading a scan again may take; no limit if None.
    """

    def __init__(self, model: "Model", outputs: Sequence[ExtraOutput], seconds: float | None) -> None:
        self._model, self._outputs, self._seconds = model, outputs, seconds
        self.complete = True
        """Whether everything could be written so far."""

    @property
    def written(self) -> list[Path]:
        """Files and folders into which something was written."""
        return [output.path for output in self._outputs if output.written]

    def add(self, analysis: "ScanResult") -> "ResultRecord":
        """Write what is wanted of a scan; its record, with a quality flag for every output that it is missing in."""
        known = analysis.record
        found = tuple(flag for flag in known.flags if flag.code != OUTPUT_FAILED_CODE)
        record = known.with_flags(found)  # an earlier run's troubles may be over
        analysis = replace(analysis, record=record)
        wanting = [output for output in self._outputs if record.has_prediction and output.needs_network_input(record)]
        drawn, explanation, failure = self._prepare_gradcam(analysis) if wanting else (analysis, None, None)
        missing = [self._failure_flag(output, failure) for output in wanting if failure]
        for output in self._outputs:
            given = drawn if output in wanting else analysis
            if failure := _run_output(partial(output.add, given, explanation)):
                missing.append(self._failure_flag(output, failure))
        record = record.with_flags((*found, *missing))
        return known if record == known else record

    def save(self, records: "Sequence[ResultRecord]") -> None:
        """Write the outputs of all scans together; an output that fails is logged and affects no other."""
        for output in self._outputs:
            if failure := _run_output(partial(output.save, records)):
                self.complete = False
                log(f"{output.option}: {failure.message}")

    def _prepare_gradcam(self, analysis: "ScanResult") -> "tuple[ScanResult, GradcamMap | None, ScanFailure | None]":
        """The scan prepared, again if need be, and its explanation; or why there are none."""
        drawn, explanations = [analysis], []

        def draw() -> None:
            if not analysis.model_input:
                drawn.append(self._model.recompute(analysis.record, self._seconds))
            explanations.append(self._model.compute_gradcam_map(drawn[-1]))

        failure = _run_output(draw)
        return drawn[-1], explanations[0] if explanations else None, failure

    def _failure_flag(self, output: ExtraOutput, failure: "ScanFailure") -> QCFlag:
        self.complete = False
        return QCFlag(
            OUTPUT_FAILED_CODE, "warn", f"{output.option} has no output of this scan: {failure.message}", output.option
        )


def open_extra_outputs(
    run: "InferRun", model: "Model", montage: "Montage | None", folders: "list[ExtraOutput]"
) -> "ExtraOutputs":
    """All outputs of a run; without any, still what removes the flags of those that an earlier run lacked."""
    from ct3d_edge.report.page import ReportPage

    pictures: list[ExtraOutput] = [MontageOutput(montage)] if montage else []
    if run.report:
        pictures.append(HtmlReportOutput(ReportPage(run.report, model.contract), model.run_report.to_dict()))
    return ExtraOutputs(model, [*pictures, *folders], run.scan_timeout)


def _run_output(work: Callable[[], object]) -> "ScanFailure | None":
    """Do the work; return the reason if the scan, the disk or an unexpected error prevents it.

    Raises
    ------
    Ct3dError
        What would be wrong for every scan, the provider for instance.
    """

    def translated() -> None:
        try:
            work()
        except (UsageError, OutputError) as error:
            raise UnreadableScanError(OUTPUT_FAILED_CODE, str(error)) from error

    failed = run_guarded(translated)
    return failed[1] if failed else None
