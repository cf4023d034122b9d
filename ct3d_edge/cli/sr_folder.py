"""The folder that ``infer --dicom-sr`` writes: of each DICOM series that has an answer, a structured report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.atomic import make_folder, require_writable
from ct3d_edge.cli.scan_names import unique_names
from ct3d_edge.cli.terminal import say
from ct3d_edge.errors import UsageError
from ct3d_edge.extras import require_extra

if TYPE_CHECKING:
    from ct3d_edge.pipeline import Analysis, Explanation
    from ct3d_edge.results import Record

ENDING = "_sr.dcm"


class SrFolder:
    """Where the structured reports go.

    Parameters
    ----------
    folder
        Made if it is not there.
    scans
        All scans of the run, so that two of one name get files of different names.
    model
        Its name, as reports give it.
    with_identifiers
        Whether the user agreed to outputs that name the patient.
    seconds
        How long reading a series again may take; for ever if None.

    Raises
    ------
    UsageError
        If the user did not, or the folder cannot be written to.
    MissingExtraError
        If highdicom is not installed.
    """

    option = "--dicom-sr"

    def __init__(
        self, folder: Path, scans: Sequence[Path], model: str, *, with_identifiers: bool, seconds: float | None = None
    ) -> None:
        from ct3d_edge.scan import is_series

        if not with_identifiers:
            raise UsageError(
                "--dicom-sr writes reports that are filed under the patient's name and ID, which no output holds "
                "without --with-identifiers; give both options."
            )
        require_extra("dicom", ["highdicom"])
        make_folder(folder)
        require_writable(folder / ENDING)
        self.path, self.written = folder, 0
        self._model, self._seconds = model, seconds
        self._names = unique_names(scans)
        self._series = frozenset(filter(is_series, scans))

    def say_left_out(self) -> None:
        """Say how many scans can have no report."""
        others = len(self._names) - len(self._series)
        if others:
            say(f"--dicom-sr: {others} of {len(self._names)} scans are no DICOM series and get no structured report")

    def needs(self, record: "Record") -> bool:  # noqa: ARG002
        """No: the record says it all."""
        return False

    def add(self, analysis: "Analysis", explanation: "Explanation | None") -> None:  # noqa: ARG002
        """Write the report of a series that has an answer, unless this very one is there.

        Raises
        ------
        ScanError
            If the series cannot be read any more, not in time, or a report could not be filed beside it.
        UsageError
            If the file cannot be written.
        """
        from ct3d_edge.pipeline.crew import within
        from ct3d_edge.report.structured import is_report_of, save_report

        record = analysis.record
        scan = Path(record.scan)
        if scan not in self._series or not record.answered:
            return
        place = self.path / (self._names[scan] + ENDING)
        if not is_report_of(place, record, self._model):
            within(self._seconds, lambda _, on_block: save_report(record, place, self._model, on_block), scan)
            self.written += 1

    def save(self, records: "Sequence[Record]") -> None:
        """Say how many series have none, as they have no answer."""
        without = sum(Path(record.scan) in self._series and not record.answered for record in records)
        if without:
            say(f"--dicom-sr: {without} series without an answer get no structured report")
