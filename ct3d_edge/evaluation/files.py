"""An evaluation in a folder: evaluation.json, scans.csv, roc.png, reliability.png."""

import json
from pathlib import Path

from ct3d_edge.atomic import atomic_file, make_folder, require_writable
from ct3d_edge.evaluation.evaluation import Evaluation
from ct3d_edge.extras import require_extra
from ct3d_edge.results import csv_line

JSON, TABLE, ROC, RELIABILITY = "evaluation.json", "scans.csv", "roc.png", "reliability.png"
FILES = (JSON, TABLE, ROC, RELIABILITY)
COLUMNS = ("scan", "truth", "probability", "answer", "correct")


def require_folder(out: Path) -> None:
    """Make sure, before the work, that its files can be written.

    Raises
    ------
    UsageError
        If ``out`` is a file, or cannot be written to.
    MissingExtraError
        If matplotlib is not installed.
    """
    require_extra("evaluate", ["matplotlib"])
    make_folder(out)
    for name in FILES:
        require_writable(out / name)


def write_files(evaluation: Evaluation, out: Path) -> tuple[Path, ...]:
    """Write all four files, each complete or not at all, over earlier ones; their paths."""
    from ct3d_edge.evaluation.plots import reliability_png, roc_png

    contents = {
        JSON: to_json(evaluation).encode(),
        TABLE: to_csv(evaluation).encode("utf-8", "backslashreplace"),
        ROC: roc_png(evaluation),
        RELIABILITY: reliability_png(evaluation),
    }
    for name, content in contents.items():
        with atomic_file(out / name) as stream:
            stream.write(content)
    return tuple(out / name for name in FILES)


def to_json(evaluation: Evaluation) -> str:
    """Indented JSON, without NaN."""
    return json.dumps(evaluation.to_dict(), indent=1, allow_nan=False) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """A header and one row a scan; the probability is that of the second class."""
    labels = evaluation.contract.labels
    rows = [[v.scan, labels[v.truth], v.probability, labels[v.answer], v.correct] for v in evaluation.scans]
    return "".join(map(csv_line, [COLUMNS, *rows]))
