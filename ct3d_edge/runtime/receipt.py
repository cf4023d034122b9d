"""What really ran, where: asked, actual, and why not something better."""

from dataclasses import asdict, dataclass
from typing import Any

from ct3d_edge.provider_names import ProviderName, RequestedProvider


@dataclass(frozen=True)
class Receipt:
    """The account of one session.

    Parameters
    ----------
    requested, actual
        Provider asked for (``"auto"`` included) and the one that does the work.
    passed_over
        ``(provider, reason)`` for each one that was tried before ``actual``.
    nodes
        ``(provider, number of graph nodes placed on it)`` after ONNX Runtime's own optimisation.
    options
        What was set for the provider, by ONNX Runtime's names.
    threads
        Threads within an operator on the CPU.
    onnxruntime
        Its version.
    model_sha256, contract_sha256
        Hashes of the model file's bytes and of its contract.
    """

    requested: RequestedProvider
    actual: ProviderName
    passed_over: tuple[tuple[str, str], ...]
    nodes: tuple[tuple[str, int], ...]
    options: tuple[tuple[str, str], ...]
    threads: int
    onnxruntime: str
    model_sha256: str
    contract_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return {
            **asdict(self),
            "passed_over": dict(self.passed_over),
            "nodes": dict(self.nodes),
            "options": dict(self.options),
        }

    def describe(self) -> str:
        """One line for people, e.g. ``provider cpu (asked: auto), 22 nodes on cpu, 2 threads``."""
        nodes = ", ".join(f"{count} nodes on {name}" for name, count in self.nodes)
        return f"provider {self.actual} (asked: {self.requested}), {nodes}, {self.threads} threads"
