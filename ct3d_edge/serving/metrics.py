"""What Prometheus reads at ``/metrics``. Of scans only counts and times: no names, no labels of patients."""

from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from ct3d_edge.results.record import ResultRecord
from ct3d_edge.serving.work_queue import WorkQueue
from ct3d_edge.session.run_report import RunReport

OOD_CODE = "out_of_distribution"

STAGES = ("receive", "queue", "read", "preprocess", "infer")

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one server.

    Parameters
    ----------
    report
        Of the session.
    queue
        Its length is read when Prometheus asks.
    healthy
        Whether the session works.
    """

    def __init__(self, report: RunReport, queue: WorkQueue, healthy: Callable[[], bool]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which Prometheus does not need
        self._registry = registry = CollectorRegistry()
        self._scans = Counter(
            "ct3d_edge_scans", "Scans by status and failure code.", ["status", "code"], registry=registry
        )
        self._ood = Counter("ct3d_edge_scans_out_of_distribution", "Scans with that quality flag.", registry=registry)
        self._tensors = Counter("ct3d_edge_inferences", "Network inputs of inference requests.", registry=registry)
        self._stages = Histogram(
            "ct3d_edge_stage_seconds",
            "Time of a request in each stage.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._requests = Counter(
            "ct3d_edge_http_requests", "Requests.", ["method", "route", "status"], registry=registry
        )
        self._durations = Histogram(
            "ct3d_edge_http_request_seconds",
            "Time to the whole response.",
            ["route"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        for stage in STAGES:
            self._stages.labels(stage)
        self._gauge("ct3d_edge_queue_length", "Requests that wait for a worker.", lambda: queue.waiting)
        self._gauge("ct3d_edge_requests_receiving", "Requests whose body is received.", lambda: queue.receiving)
        self._gauge("ct3d_edge_requests_running", "Requests that a worker runs.", lambda: queue.running)
        self._gauge("ct3d_edge_session_healthy", "1 unless the last run of the network failed.", healthy)
        Info("ct3d_edge_model", "The model and its session.", registry=registry).info(_describe_session(report))
        ProcessCollector(registry=registry)

    def add_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._requests.labels(method, route, str(status)).inc()
        self._durations.labels(route).observe(seconds)

    def add_stage(self, stage: str, seconds: float | None) -> None:
        """Count the time of a stage; None if it was not reached."""
        if seconds is not None:
            self._stages.labels(stage).observe(seconds)

    def add_record(self, record: ResultRecord) -> None:
        """Count a scan."""
        self._scans.labels(record.status, record.failure.code if record.failure else "").inc()
        if any(flag.code == OOD_CODE for flag in record.flags):
            self._ood.inc()
        for stage in ("read", "preprocess", "infer"):
            milliseconds = getattr(record.timing, stage)
            self.add_stage(stage, None if milliseconds is None else milliseconds / 1e3)

    def add_inferences(self, count: int) -> None:
        """Count the network inputs of a request."""
        self._tensors.inc(count)

    def to_text(self) -> bytes:
        """The text format 0.0.4, which every Prometheus reads."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(name, text, registry=self._registry).set_function(read)


def _describe_session(report: RunReport) -> dict[str, str]:
    return {
        "version": version("ct3d-edge"),
        "model_sha256": report.model_sha256,
        "contract_sha256": report.contract_sha256,
        "provider": report.actual,
        "requested": report.requested,
        "precision": report.arithmetic,
        "threads": str(report.threads or ""),
        "gpu": report.gpu or "",
        "onnxruntime": report.onnxruntime,
        "tuned": str(report.tuned).lower(),
    }
