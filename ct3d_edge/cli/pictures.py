"""Overview picture and page of ``infer``, fed scan by scan."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ct3d_edge.cli.terminal import say

if TYPE_CHECKING:
    from ct3d_edge.pipeline import Analysis, Explanation
    from ct3d_edge.report import Montage, ReportPage
    from ct3d_edge.results import Record


class MontageOutput:
    """Slices of each scan that is judged now."""

    option = "--montage"

    def __init__(self, montage: "Montage") -> None:
        self._montage = montage
        self.path, self.written = montage.path, 0

    def needs(self, record: "Record") -> bool:  # noqa: ARG002
        """No: a scan whose record was taken over is left out."""
        return False

    def add(self, analysis: "Analysis", explanation: "Explanation | None") -> None:  # noqa: ARG002
        """Add the scan's strip."""
        if analysis.prepared:
            self._montage.add(analysis.record, analysis.prepared.volume)

    def save(self, records: "Sequence[Record]") -> None:  # noqa: ARG002
        """Write the picture, if there is anything to draw."""
        if self._montage.scans:
            self._montage.save()
            self.written = self._montage.scans
        else:
            say(f"{self.option}: no scan was judged in this run, so there is nothing to draw; {self.path} not written")


class PageOutput:
    """Every scan with its slices and, where there is one, its map."""

    option = "--report"

    def __init__(self, page: "ReportPage", receipt: dict[str, Any]) -> None:
        self._page, self._receipt = page, receipt
        self.path, self.written = page.path, 0

    def needs(self, record: "Record") -> bool:  # noqa: ARG002
        """Yes: the page shows slices of all."""
        return True

    def add(self, analysis: "Analysis", explanation: "Explanation | None") -> None:
        """Add the scan, with pictures if there are any."""
        volume = analysis.prepared.volume if analysis.prepared else None
        overlay = explanation.on_network_grid() if explanation else None
        self._page.add(analysis.record, volume, overlay, explanation.label if explanation else "")

    def save(self, records: "Sequence[Record]") -> None:
        """Write the page, which also lists scans without an answer."""
        self._page.save(records, self._receipt)
        self.written = len(records)
