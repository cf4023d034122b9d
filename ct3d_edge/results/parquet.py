"""Records as a Parquet file, one row a scan, for tables of large cohorts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from ct3d_edge.results.record import ResultRecord

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_MODULES = ("pyarrow",)
"""What the extra `parquet` brings."""


def write_parquet(stream: BinaryIO, records: Sequence[ResultRecord], labels: Sequence[str]) -> None:
    """Write records with typed columns; strings are UTF-8, and bytes of a path that are no UTF-8 are escaped.

    Parameters
    ----------
    labels
        Classes of the model: one column ``p_CLASS`` (float64) each.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_make_row(record, labels) for record in records], schema=_make_schema(labels))
    pq.write_table(table, stream, compression="zstd")


def _make_schema(labels: Sequence[str]) -> "pa.Schema":
    """The columns, in order, the same whether or not a row has a value in them."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            *((name, text) for name in ("scan", "status", "label")),
            *((f"p_{label}", number) for label in labels),
            ("threshold", number),
            ("flags", pa.list_(text)),
            *((name, text) for name in ("error_code", "error_message")),
            *((f"{stage}_ms", number) for stage in ("read", "preprocess", "infer", "total")),
            *((name, text) for name in ("provider_requested", "provider", "precision")),
            *((f"{what}_sha256", text) for what in ("model", "contract", "scan", "input")),
        ]
    )


def _make_row(record: ResultRecord, labels: Sequence[str]) -> dict[str, Any]:
    prediction, failure, timing = record.prediction, record.failure, record.timing
    probability = dict(prediction.probability) if prediction else {}
    return {
        "scan": _escape(record.scan),
        "status": record.status,
        "label": prediction.label if prediction else None,
        **{f"p_{label}": probability.get(label) for label in labels},
        "threshold": prediction.threshold if prediction else None,
        "flags": [flag.code for flag in record.flags],
        "error_code": failure.code if failure else None,
        "error_message": _escape(failure.message) if failure else None,
        **{f"{stage}_ms": getattr(timing, stage) for stage in ("read", "preprocess", "infer", "total")},
        "provider_requested": record.requested,
        "provider": record.actual,
        "precision": record.precision,
        "model_sha256": record.model_sha256,
        "contract_sha256": record.contract_sha256,
        "scan_sha256": record.scan_sha256,
        "input_sha256": record.input_sha256,
    }


def _escape(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
