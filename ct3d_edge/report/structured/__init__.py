"""An answer as a DICOM structured report that is filed beside the series it speaks of."""

from ct3d_edge.report.structured.document import is_report_of, save_report

__all__ = ["is_report_of", "save_report"]
