"""One study of ``ct3d-edge job``: its scans predicted, and the files that are written of them."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.cli.logs import to_option_names
from ct3d_edge.errors import NoScansError
from ct3d_edge.extras import require_extra

if TYPE_CHECKING:
    from ct3d_edge.cli.extra_outputs import ExtraOutput
    from ct3d_edge.deployment.job_layout import Study
    from ct3d_edge.deployment.job_result import JobResult
    from ct3d_edge.inference.model import Model
    from ct3d_edge.results.record import ResultRecord


@dataclass(frozen=True)
class JobOutputs:
    """What is written of each study besides ``result.json``."""

    dicom_sr: bool
    dicom_sc: bool
    dicom_pm: bool
    gradcam: bool
    report: bool
    probabilities: Mapping[str, str]
    notify: Sequence[str]
    targets: Mapping[str, str]


class StudyRun:
    """The work on one study.

    Parameters
    ----------
    model_name
        As structured reports give it.
    seconds
        Time limit of a scan.
    """

    def __init__(
        self, model: "Model", model_name: str, study: "Study", outputs: JobOutputs, seconds: float | None
    ) -> None:
        self._model, self._model_name, self._study = model, model_name, study
        self._outputs, self._seconds = outputs, seconds
        self.complete = True
        """Whether all that was asked for could be written."""

    def predict(self, series: str | None, workers: int | None, max_memory: int | None) -> "JobResult":
        """Predict the study's scans, and write what is written of each."""
        from ct3d_edge.cli.extra_outputs import ExtraOutputs
        from ct3d_edge.cli.terminal import log_skipped
        from ct3d_edge.deployment.job_result import JobResult
        from ct3d_edge.results.record import ScanFailure
        from ct3d_edge.scan.discovery import discover_scans

        software = f"ct3d-edge {version('ct3d-edge')}"
        try:
            search = discover_scans([self._study.source], series)
        except NoScansError as error:
            failure = ScanFailure("no_scans", to_option_names(str(error)))
            return JobResult((), failure, software, skipped=error.skipped)
        log_skipped(search.passed_over)
        self._model.search_flags = search.flags
        plan = self._model.make_schedule(len(search.scans), workers=workers, max_memory=max_memory)
        sides = ExtraOutputs(self._model, self._extra_outputs(search.scans), self._seconds)
        records: list[ResultRecord] = []
        with closing(self._model.iter_results(search.scans, plan, timeout_s=self._seconds)) as results:
            records.extend(sides.add(result) for result in results)
        sides.save(records)
        self.complete = sides.complete
        result = JobResult(tuple(records), None, software)
        return result.require_single_prediction() if self._outputs.probabilities else result

    def write(self, result: "JobResult", *, mercure: bool) -> None:
        """Write ``result.json`` last, so that it stands for a complete folder, and the probabilities before it."""
        from ct3d_edge.deployment.job_result import RESULT_FILE, mercure_keys, write_json

        for label, name in self._outputs.probabilities.items() if not result.failure else ():
            for prediction in result.predictions:  # one at most
                write_json(self._study.out / name, dict(prediction.probability)[label])
        content = result.to_dict(self._list_files())
        if mercure or self._outputs.notify or self._outputs.targets:
            content |= mercure_keys(result, self._outputs.notify, self._outputs.targets)
        write_json(self._study.out / RESULT_FILE, content)

    def _extra_outputs(self, scans: "Sequence[Path]") -> "list[ExtraOutput]":
        from ct3d_edge.cli.extra_outputs import HtmlReportOutput
        from ct3d_edge.cli.infer_options import OutputFolders
        from ct3d_edge.report.page import ReportPage
        from ct3d_edge.scan.loader import is_series

        out, outputs = self._study.out, self._outputs
        extra: list[ExtraOutput] = []
        if outputs.report:
            page = ReportPage(out / "report.html", self._model.contract)
            extra.append(HtmlReportOutput(page, self._model.run_report.to_dict()))
        series = any(map(is_series, scans))
        if outputs.dicom_sr and series:
            require_extra("dicom", ["highdicom"], "or leave the structured reports out: --no-dicom-sr")
        folders = OutputFolders(
            gradcam=out if outputs.gradcam else None,
            dicom_sr=out if outputs.dicom_sr and series else None,
            dicom_sc=out if outputs.dicom_sc else None,
            dicom_pm=out if outputs.dicom_pm else None,
        )
        return extra + folders.open(scans, self._model_name, include_phi=True, seconds=self._seconds)

    def _list_files(self) -> list[str]:
        from ct3d_edge.deployment.job_result import RESULT_FILE

        files = (path.name for path in self._study.out.iterdir() if path.is_file() and path.name != RESULT_FILE)
        return sorted(name for name in files if not name.startswith("."))
