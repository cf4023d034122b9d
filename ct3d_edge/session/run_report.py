"""The run report of a session: provider asked for and used, why not a better one, versions and device under it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ct3d_edge.formatting import plural
from ct3d_edge.providers import nvidia
from ct3d_edge.providers.names import ON_NVIDIA, ProviderName, RequestedProvider
from ct3d_edge.providers.nvidia import has_nvidia_gpu
from ct3d_edge.providers.options import Options
from ct3d_edge.providers.plugins import PLUGINS, find_plugin_issue, list_plugin_devices
from ct3d_edge.system.atomic_write import atomic_file
from ct3d_edge.system.machine import find_installed_version

SCHEMA = 1
"""Version of the JSON form; raised when the meaning of a field changes."""


@dataclass(frozen=True)
class EngineUsed:
    """The TensorRT engine of a session.

    Parameters
    ----------
    key
        SHA-256 of everything that it depends on.
    built
        Whether it was built for this session, rather than found.
    seconds
        How long its build took.
    """

    key: str
    built: bool
    seconds: float


@dataclass(frozen=True)
class RunReport:
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
        Every option of the provider, those at their defaults included; an empty text is one that is not set.
    threads, batch
        Threads within an operator on the CPU, None where the provider chooses; volumes in one run, None where any
        number goes.
    versions
        ``(name, version)`` of what may change predictions or speed; None for what is not there.
    gpu
        Name of the GPU that does the work, None without one.
    weights, interface
        Number types of the stored weights, most bytes first, and of input and output.
    arithmetic
        What most of the file is computed in: by its provenance, ``"fp32"``, ``"fp16"`` or ``"int8"``, where the
        provider leaves that alone; else by the provider's option, ``"bf16"`` for instance.
    tf32
        Whether inputs of convolutions may be rounded to 10 bits of mantissa; None where that is not known.
    engine
        The TensorRT engine, if it is one.
    tuned
        Whether model file, threads or options were chosen by measurements on this machine.
    choice
        SHA-256 of the file of that choice; None without one.
    model_sha256, contract_sha256
        Hashes of the model file's bytes and of its contract.
    """

    requested: RequestedProvider
    actual: ProviderName
    passed_over: tuple[tuple[str, str], ...]
    nodes: tuple[tuple[str, int], ...]
    options: tuple[tuple[str, str], ...]
    threads: int | None
    batch: int | None
    versions: tuple[tuple[str, str | None], ...]
    gpu: str | None
    weights: tuple[str, ...]
    interface: tuple[str, str]
    arithmetic: str
    tf32: bool | None
    engine: EngineUsed | None
    tuned: bool
    choice: str | None
    model_sha256: str
    contract_sha256: str

    @property
    def onnxruntime(self) -> str:
        """Version of ONNX Runtime."""
        return str(dict(self.versions)["onnxruntime"])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record, documented in docs/providers.md."""
        entries = asdict(self)
        weights, interface, arithmetic = (entries.pop(name) for name in ("weights", "interface", "arithmetic"))
        return {
            "schema": SCHEMA,
            **entries,
            "passed_over": dict(self.passed_over),
            "nodes": dict(self.nodes),
            "options": dict(self.options),
            "versions": dict(self.versions),
            "precision": {
                "weights": list(weights),
                "arithmetic": arithmetic,
                "input": interface[0],
                "output": interface[1],
            },
        }

    def save(self, path: Path) -> None:
        """Write it as JSON; complete or not at all."""
        with atomic_file(path) as stream:
            stream.write(json.dumps(self.to_dict(), indent=2).encode() + b"\n")

    def notes(self, *, verbose: bool = False) -> tuple[str, ...]:
        """A sentence for each provider that was skipped.

        Without a requested provider and without an NVIDIA GPU, NVIDIA's providers are left out unless ``verbose``.
        """
        show_nvidia = verbose or self.requested != "auto" or has_nvidia_gpu()
        entries = [(name, reason) for name, reason in self.passed_over if show_nvidia or name not in ON_NVIDIA]
        return tuple(f"not {name}: {reason}" for name, reason in entries)

    def describe(self) -> str:
        """One line for people, e.g. ``provider cpu (requested: auto), 22 nodes on cpu, 2 threads``.

        The precision is named where it is not float32.
        """
        nodes = ", ".join(f"{plural(count, 'node')} on {name}" for name, count in self.nodes)
        device = f" on {self.gpu}" if self.gpu else ""
        precision = "" if self.arithmetic == "fp32" else f", in {self.arithmetic}"
        threads = "threads chosen by the provider" if self.threads is None else plural(self.threads, "thread")
        return f"provider {self.actual}{device} (requested: {self.requested}), {nodes}{precision}, {threads}"


AMPERE_CAPABILITY = (8, 0)
"""Compute capability of the first GPUs with TF32."""


@dataclass(frozen=True)
class RuntimePlatform:
    """Versions and GPU of a session; None for what is missing or not reported.

    Parameters
    ----------
    versions
        Of ct3d-edge, ONNX Runtime, the plugin, CUDA, cuDNN, TensorRT and NVIDIA's driver.
    gpu
        NVIDIA's GPU that does the work.
    """

    versions: tuple[tuple[str, str | None], ...]
    gpu: nvidia.Gpu | None


def detect_platform(name: ProviderName, device_number: int = 0) -> RuntimePlatform:
    """Versions and GPU of a session on that provider and device; NVIDIA is asked only where it does the work."""
    nvidia_does_it = name in ON_NVIDIA
    gpu = nvidia.find_gpu(device_number) if nvidia_does_it else None
    cuda = str(ort.cuda_version or "").partition(".")[0]
    found = {
        "ct3d-edge": find_installed_version("ct3d-edge"),
        "onnxruntime": str(ort.__version__),
        "plugin": _plugin_version(name),
        "cuda": nvidia.cudart_version(cuda) if nvidia_does_it else None,
        "cudnn": nvidia.cudnn_version() if nvidia_does_it else None,
        "tensorrt": nvidia.tensorrt_version() if name == "tensorrt" else None,
        "driver": gpu.driver if gpu else None,
    }
    return RuntimePlatform(tuple(found.items()), gpu)


def is_tf32_allowed(name: ProviderName, options: Options, gpu: nvidia.Gpu | None) -> bool | None:
    """Whether inputs of convolutions may be rounded to TF32; None if unknown.

    NVIDIA's libraries obey ``NVIDIA_TF32_OVERRIDE`` above every other setting. TensorRT allows TF32 unless its builder
    has another setting, which ONNX Runtime's provider has no option for.
    """
    if name not in ("tensorrt", "cuda"):
        return None
    if gpu and gpu.capability < AMPERE_CAPABILITY:
        return False
    override = os.environ.get("NVIDIA_TF32_OVERRIDE")
    if override in ("0", "1"):
        return override == "1"
    return name == "tensorrt" or options.as_dict()["use_tf32"] == "1"


def _plugin_version(name: ProviderName) -> str | None:
    if name not in PLUGINS or find_plugin_issue(PLUGINS[name]):  # a tuned choice may outlive the plugin
        return None
    return next((device.ep_metadata.get("version") for device in list_plugin_devices(PLUGINS[name])), None)
