"""One ONNX Runtime session on one provider, and buffers for it that stay on the device."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ct3d_edge.errors import ProviderError
from ct3d_edge.providers import availability
from ct3d_edge.providers.availability import Provider
from ct3d_edge.providers.options import CpuOptions, OpenvinoOptions, Options
from ct3d_edge.providers.plugins import Plugin, list_plugin_devices
from ct3d_edge.system.machine import count_usable_cores


class IoBinding:
    """Inputs and outputs in buffers allocated once: no allocation in a run, and addresses that a CUDA graph may keep.

    Threads that call it at the same time wait for each other, as there is one set of buffers.

    Parameters
    ----------
    session
        An open session.
    input_name, input_shape
        The graph's input and its shape without the batch axis.
    outputs
        Those of the graph's outputs that are wanted, and their lengths.
    batch
        Volumes in each run. Fewer are filled up with zeros whose outputs are dropped.
    device
        Device and its number, as ONNX Runtime names them: ``("cuda", 0)``, ``("cpu", 0)``.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        input_name: str,
        input_shape: tuple[int, ...],
        outputs: Mapping[str, int],
        batch: int,
        device: tuple[str, int],
    ) -> None:
        self._session = session
        self._batch = batch
        self._lock = threading.Lock()
        self._staging = np.zeros((batch, *input_shape), np.float32)
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(self._staging.shape, np.float32, *device)
        self._outputs = [
            ort.OrtValue.ortvalue_from_shape_and_type((batch, length), np.float32, *device)
            for length in outputs.values()
        ]
        self._binding: Any = session.io_binding()
        self._binding.bind_ortvalue_input(input_name, self._input)
        for name, value in zip(outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def run(self, part: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Outputs of at most ``batch`` volumes, all float32."""
        with self._lock:
            return self._run(part)

    def _run(self, part: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if len(part) < self._batch:
            self._staging[: len(part)] = part
            self._staging[len(part) :] = 0
            part, length = self._staging, len(part)
        else:
            length = self._batch
        self._input.update_inplace(np.ascontiguousarray(part))
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return [np.array(output.numpy()[:length], np.float32) for output in self._outputs]


ORT_FATAL_ONLY = 4
"""Log level. Whatever else it has to say arrives as an exception, with the same text."""

# What belongs to no session (a library that does not load) is written to standard error in colours otherwise.
ort.set_default_logger_severity(ORT_FATAL_ONLY)


OPENVINO_PRECISIONS = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
"""What OpenVINO calls a precision in its options, and in the list of what a device computes in."""


@dataclass(frozen=True)
class SessionConfig:
    """How a session is opened.

    Parameters
    ----------
    candidate, options
        The provider and what is set for it.
    fallbacks
        Providers that may take the nodes it leaves, with what is set for them, best first.
    threads
        Threads within an operator on the CPU.
    extra
        Provider options that are not the user's to set: where an engine is stored, for instance.
    fixed_dimensions
        Symbolic dimensions of the graph that have one value in this session, e.g. ``{"batch": 1}``.
    profile
        Where ONNX Runtime's profiler writes, as the beginning of a file name; None without it.
    """

    candidate: Provider
    options: Options
    fallbacks: Sequence[tuple[Provider, Options]] = ()
    threads: int = field(default_factory=count_usable_cores)
    extra: Mapping[str, str] = field(default_factory=dict)
    fixed_dimensions: Mapping[str, int] = field(default_factory=dict)
    profile: str | None = None


class SessionRefused(Exception):  # not an error yet: whether it is one depends on who asked
    """ONNX Runtime would not open a session for a model."""


def open_session(model: bytes, config: SessionConfig) -> ort.InferenceSession:
    """A session for the bytes of an ONNX file.

    Raises
    ------
    SessionRefused
        If ONNX Runtime does not make one.
    ProviderError
        If the device asked for is not there.
    """
    settings = _make_session_options(config)
    plugin = config.candidate.plugin
    if plugin:
        device = select_plugin_device(plugin, config.options)
        settings.add_provider_for_devices([device], config.options.provider_options())
    stack = [] if plugin else [(config.candidate, config.options), *config.fallbacks]
    entries = [(entry.ort_name, options.provider_options()) for entry, options in stack]
    if entries:
        entries[0][1].update(config.extra)
    try:
        # Its own fallback would rebuild the session on the CPU in the middle of a run, and only print so.
        return ort.InferenceSession(model, settings, providers=entries or None, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise SessionRefused(str(error)) from error


def _make_session_options(config: SessionConfig) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = ORT_FATAL_ONLY
    settings.intra_op_num_threads = config.threads
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if config.profile:
        settings.enable_profiling = True
        settings.profile_file_prefix = config.profile
    for name, size in config.fixed_dimensions.items():
        settings.add_free_dimension_override_by_name(name, size)
    if isinstance(config.options, CpuOptions):
        settings.enable_cpu_mem_arena = config.options.enable_cpu_mem_arena
        settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(config.options.allow_spinning)))
        settings.add_session_config_entry("session.set_denormal_as_zero", str(int(config.options.denormal_as_zero)))
    return settings


def select_plugin_device(plugin: Plugin, options: Options) -> Any:
    """The plugin's device (``OrtEpDevice``) of the kind and number that the options name.

    Raises
    ------
    ProviderError
        If there is none, or it does not compute in the precision asked for.
    """
    listed = list_plugin_devices(plugin)
    kind = getattr(options, "device", None)
    fitting = [device for device in listed if kind is None or str(device.device.type).endswith(f".{kind}")]
    if options.device_number >= len(fitting):
        wanted = f"{kind or ''} device {options.device_number}".strip()
        raise ProviderError(f"its plugin lists no {wanted}; it lists {len(fitting)} of that kind, {len(listed)} in all")
    found = fitting[options.device_number]
    _check_device_precision(found, options)
    return found


def _check_device_precision(device: Any, options: Options) -> None:
    """Refuse what OpenVINO would replace by another precision without a message."""
    capabilities = device.ep_metadata.get("OPTIMIZATION_CAPABILITIES", "").split()
    if not isinstance(options, OpenvinoOptions) or not capabilities:
        return
    offered = [name for name in OPENVINO_PRECISIONS if OPENVINO_PRECISIONS[name] in capabilities]
    if options.inference_precision not in offered:
        raise ProviderError(
            f"its device {options.device} computes in {', '.join(offered)}, not in {options.inference_precision}; "
            f"set inference_precision={' or '.join(offered)}"
        )


def node_placement(session: ort.InferenceSession, candidate: Provider, *, allow_fallback: bool) -> dict[str, int]:
    """Number of nodes on each provider, by our names.

    Raises
    ------
    ProviderError
        If the provider was dropped or took nothing, or left nodes to another one without permission.
    """
    if candidate.ort_name not in session.get_providers():
        raise ProviderError("ONNX Runtime dropped it without a message when the session was made")
    nodes_of: dict[str, list[str]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        names = [node.name or node.op_type for node in subgraph.get_nodes()]
        nodes_of.setdefault(availability.provider_name_of(subgraph.ep_name), []).extend(names)
    elsewhere = [node for name, nodes in nodes_of.items() if name != candidate.name for node in nodes]
    if candidate.name not in nodes_of:
        raise ProviderError("it took none of the model's nodes")
    if elsewhere and not allow_fallback:
        raise ProviderError(f"it leaves {len(elsewhere)} nodes to another provider ({', '.join(elsewhere[:5])})")
    return {name: len(nodes) for name, nodes in nodes_of.items()}
