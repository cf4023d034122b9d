"""Options of each provider, with their values and defaults.

Names are ONNX Runtime's own where it has one for the setting. Every set of options is frozen and knows what it
amounts to for ONNX Runtime: session settings for the CPU, provider options for the others.
"""

import json
import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from ct3d_edge.errors import UsageError
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.system.machine import count_usable_cores

GIBIBYTE = 2**30

BOOLEAN_VALUES = {"1": True, "0": False, "true": True, "false": False, "on": True, "off": False}
"""What counts as yes and no."""


def option_field(default: Any, meaning: str, *, least: int = 0, most: int | None = None) -> Any:
    """A field of a set of options: its default, what it does, and the range of a number."""
    return field(default=default, metadata={"meaning": meaning, "least": least, "most": most})


@dataclass(frozen=True)
class Options:
    """Base of every provider's options."""

    gpu: ClassVar[bool] = False
    """Whether inputs and outputs are in buffers on an NVIDIA GPU."""

    @property
    def device_number(self) -> int:
        """Number of the device among those that the provider offers."""
        return int(getattr(self, "device_id", 0))

    @property
    def supports_threads(self) -> bool:
        """Whether the number of threads can be set."""
        return False

    @property
    def threads(self) -> int | None:
        """The number of threads that an option asks for."""
        return None

    def with_threads(self, count: int) -> Self:  # noqa: ARG002
        """The same for so many threads, where that number is an option of the provider's."""
        return self

    def arithmetic(self, stored: str) -> str:
        """What a file that was made for ``stored`` (``"fp32"``, ``"fp16"``, ``"int8"``) is computed in."""
        return stored

    def provider_options(self) -> dict[str, str]:
        """What ONNX Runtime is given for the provider."""
        return {}

    def as_dict(self) -> dict[str, str]:
        """Every setting by its name, for a receipt and the key of an engine; defaults included."""
        return {entry.name: _text(getattr(self, entry.name)) for entry in fields(self)}


@dataclass(frozen=True)
class CpuOptions(Options):
    """The CPU provider; these are settings of the session."""

    intra_op_num_threads: int | None = option_field(
        None, "threads within an operator; as many as usable cores if not set", least=1, most=1024
    )
    allow_spinning: bool = option_field(True, "threads wait in a loop: faster alone, wasteful beside other work")
    enable_cpu_mem_arena: bool = option_field(True, "keep memory between runs: faster, larger")
    denormal_as_zero: bool = option_field(False, "count numbers below 1e-38 as zero")

    @property
    def supports_threads(self) -> bool:
        """The session's threads are the provider's."""
        return True

    @property
    def threads(self) -> int | None:
        """As set."""
        return self.intra_op_num_threads


@dataclass(frozen=True)
class CudaOptions(Options):
    """The CUDA provider."""

    gpu: ClassVar[bool] = True

    device_id: int = option_field(0, "number of the GPU")
    # DEFAULT, the library's choice without a search, was reported four times slower (onnxruntime#22705).
    cudnn_conv_algo_search: Literal["HEURISTIC", "EXHAUSTIVE", "DEFAULT"] = option_field(
        "HEURISTIC", "how cuDNN chooses a convolution; EXHAUSTIVE measures all of them in the first run"
    )
    cudnn_conv_use_max_workspace: bool = option_field(True, "allow convolutions that need much memory")
    prefer_nhwc: bool = option_field(False, "channels last inside the provider")
    # TF32 rounds inputs of convolutions to 10 bits of mantissa: a choice for whoever measures it, not a default.
    use_tf32: bool = option_field(False, "allow TF32, which keeps 10 bits of mantissa, on Ampere and later")
    fuse_conv_bias: bool = option_field(False, "convolution and bias in one kernel")
    enable_cuda_graph: bool = option_field(False, "record the kernels once and replay them; the batch becomes fixed")
    gpu_mem_limit: int | None = option_field(None, "most bytes of the provider's memory arena", least=GIBIBYTE // 16)
    arena_extend_strategy: Literal["kNextPowerOfTwo", "kSameAsRequested"] = option_field(
        "kNextPowerOfTwo", "how that arena grows"
    )

    def provider_options(self) -> dict[str, str]:
        """As ONNX Runtime's CUDA provider takes them."""
        return _set_options(self)


@dataclass(frozen=True)
class TensorrtOptions(Options):
    """The TensorRT provider; engine and timing cache are ct3d-edge's own and cannot be set."""

    gpu: ClassVar[bool] = True

    device_id: int = option_field(0, "number of the GPU")
    trt_max_workspace_size: int | None = option_field(
        None, "most bytes a layer may use; all of the GPU's memory if not set", least=GIBIBYTE // 64
    )
    trt_builder_optimization_level: int = option_field(3, "how long the build searches", most=5)
    trt_auxiliary_streams: int = option_field(
        -1, "streams beside the main one; -1: TensorRT chooses", least=-1, most=16
    )
    trt_cuda_graph_enable: bool = option_field(False, "record the kernels once and replay them")

    def provider_options(self) -> dict[str, str]:
        """As ONNX Runtime's TensorRT provider takes them."""
        return _set_options(self)


@dataclass(frozen=True)
class RtxOptions(Options):
    """The plugin for TensorRT for RTX; its compiled kernels are in memory only, none are read from disk."""

    device_id: int = option_field(0, "number among the devices that the plugin lists")
    nv_max_workspace_size: int | None = option_field(None, "most bytes a layer may use", least=GIBIBYTE // 64)

    def provider_options(self) -> dict[str, str]:
        """As the plugin takes them; the device is passed separately."""
        return {name: value for name, value in _set_options(self).items() if name != "device_id"}


@dataclass(frozen=True)
class OpenvinoOptions(Options):
    """The OpenVINO plugin."""

    device: Literal["CPU", "GPU", "NPU"] = option_field("CPU", "kind of Intel device")
    # OpenVINO's own default on a CPU with bfloat16 units is to compute in bfloat16.
    inference_precision: Literal["f32", "f16", "bf16"] = option_field("f32", "precision in which it computes")
    num_streams: int = option_field(1, "inferences at once", least=1, most=64)
    inference_num_threads: int | None = option_field(
        None, "CPU threads; as many as usable cores if not set", least=1, most=1024
    )

    @property
    def supports_threads(self) -> bool:
        """OpenVINO keeps to a number of threads on the CPU alone."""
        return self.device == "CPU"

    @property
    def threads(self) -> int | None:
        """As set."""
        return self.inference_num_threads

    def with_threads(self, count: int) -> Self:
        """OpenVINO starts no more threads than there are cores, whatever the option."""
        return replace(self, inference_num_threads=min(count, count_usable_cores())) if self.supports_threads else self

    def arithmetic(self, stored: str) -> str:
        """OpenVINO converts whatever is not quantized to the precision of its option."""
        own = "bf16" if self.inference_precision == "bf16" else self.inference_precision.replace("f", "fp")
        if stored == "int8":
            return stored if own == "fp32" else f"{stored} and {own}"
        return own

    def provider_options(self) -> dict[str, str]:
        """The plugin takes its settings as a JSON text, by kind of device."""
        wanted = {
            "INFERENCE_PRECISION_HINT": self.inference_precision,
            "NUM_STREAMS": str(self.num_streams),
            "INFERENCE_NUM_THREADS": _text(self.inference_num_threads),
        }
        return {"load_config": json.dumps({self.device: {key: value for key, value in wanted.items() if value}})}


OPTIONS: dict[ProviderName, type[Options]] = {
    "tensorrt": TensorrtOptions,
    "nv-tensorrt-rtx": RtxOptions,
    "cuda": CudaOptions,
    "openvino": OpenvinoOptions,
    "cpu": CpuOptions,
}


def _set_options(options: Options) -> dict[str, str]:
    """All that is set, under its own name."""
    return {name: value for name, value in options.as_dict().items() if value}


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def default_options(name: ProviderName, device_id: int | None = None) -> Options:
    """Options of a provider that nobody set; the device's number counts if it has devices to choose from."""
    kind = OPTIONS[name]
    return parse_options(name, device_id=device_id if "device_id" in _type_hints(kind) else None)


def parse_options(name: ProviderName, texts: tuple[str, ...] = (), device_id: int | None = None) -> Options:
    """Options of a provider from ``key=value`` texts; what is not named keeps its default.

    Raises
    ------
    UsageError
        If a key or value is not one of the provider's, a key is given twice, or the provider has no devices to
        choose from; the message lists what there is.
    """
    kind = OPTIONS[name]
    values: dict[str, Any] = {}
    for text in (*texts, *(() if device_id is None else (f"device_id={device_id}",))):
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or key not in _type_hints(kind):
            raise UsageError(f"{_describe_unknown_option(name, text)} Valid are: {_describe_options(kind)}.")
        if key in values:
            raise UsageError(f"The option {key} of provider {name} is given twice.")
        values[key] = _parse_value(name, kind, key, value)
    return kind(**values)


def _describe_unknown_option(name: ProviderName, text: str) -> str:
    if text.startswith("device_id="):
        return f"Provider {name} has no devices to choose from by number."
    return f"Provider {name} has no option {text!r}."


def _parse_value(name: ProviderName, kind: type[Options], key: str, text: str) -> Any:
    hint = _type_hints(kind)[key]
    found: Any = None
    if hint is bool:
        found = BOOLEAN_VALUES.get(text.lower())
    elif get_origin(hint) is Literal:
        found = next((choice for choice in get_args(hint) if choice.lower() == text.lower()), None)
    elif re.fullmatch("-?[0-9]{1,18}", text):
        found = int(text) if _in_range(kind, key, int(text)) else None
    if found is None:
        raise UsageError(f"The option {key} of provider {name} takes {describe_choices(kind, key)}, not {text!r}.")
    return found


def _in_range(kind: type[Options], key: str, number: int) -> bool:
    limits = kind.__dataclass_fields__[key].metadata
    return bool(limits["least"] <= number and (limits["most"] is None or number <= limits["most"]))


def describe_choices(kind: type[Options], key: str) -> str:
    """The values that an option takes, in words."""
    hint, limits = _type_hints(kind)[key], kind.__dataclass_fields__[key].metadata
    if hint is bool:
        return "1 or 0"
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    most = "" if limits["most"] is None else f" to {limits['most']}"
    return f"a whole number from {limits['least']}{most or ' up'}"


def _type_hints(kind: type[Options]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {entry.name: hints[entry.name] for entry in fields(kind)}


def _describe_options(kind: type[Options]) -> str:
    return "; ".join(f"{key}={describe_choices(kind, key)}" for key in _type_hints(kind))
