"""Result records, their JSON and CSV forms."""

from ct3d_edge.results.record import SCHEMA, Answer, Failure, Record, Status, Timing
from ct3d_edge.results.writers import check_results_path, csv_line, to_csv, to_jsonl, write_results

__all__ = [
    "SCHEMA",
    "Answer",
    "Failure",
    "Record",
    "Status",
    "Timing",
    "check_results_path",
    "csv_line",
    "to_csv",
    "to_jsonl",
    "write_results",
]
