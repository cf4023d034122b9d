"""Result records, their JSON and CSV forms, and the file that keeps them."""

from ct3d_edge.results.journal import Journal, read_records
from ct3d_edge.results.known_classes import compare_with_folders, known_class
from ct3d_edge.results.parse import parse_record
from ct3d_edge.results.record import SCHEMA, Answer, Failure, Key, Record, Status, Timing, answered_status
from ct3d_edge.results.results_file import ResultsFile, latest_by_scan, open_results
from ct3d_edge.results.writers import check_results_path, csv_line, to_csv, to_jsonl, write_results

__all__ = [
    "SCHEMA",
    "Answer",
    "Failure",
    "Journal",
    "Key",
    "Record",
    "ResultsFile",
    "Status",
    "Timing",
    "answered_status",
    "check_results_path",
    "compare_with_folders",
    "csv_line",
    "known_class",
    "latest_by_scan",
    "open_results",
    "parse_record",
    "read_records",
    "to_csv",
    "to_jsonl",
    "write_results",
]
