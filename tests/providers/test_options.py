import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.providers.names import PROVIDERS, ProviderName
from ct3d_edge.providers.options import OPTIONS, CudaOptions, default_options, parse_options

DOCUMENTED = Path(__file__).parents[2] / "docs" / "providers.md"


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_frozen_options_with_defaults(name: ProviderName) -> None:
    options = parse_options(name)
    assert options == OPTIONS[name]()
    (first, *_) = fields(options)
    with pytest.raises(FrozenInstanceError):
        setattr(options, first.name, 7)


def test_what_is_named_is_set_and_the_rest_stays() -> None:
    options = parse_options(
        "cuda", ("use_tf32=on", "cudnn_conv_algo_search = exhaustive", "gpu_mem_limit=2147483648"), 1
    )
    assert options == CudaOptions(
        device_id=1, use_tf32=True, cudnn_conv_algo_search="EXHAUSTIVE", gpu_mem_limit=2147483648
    )
    told = options.provider_options()
    assert told["use_tf32"] == "1"
    assert told["gpu_mem_limit"] == "2147483648"
    assert told["prefer_nhwc"] == "0"


def test_what_is_not_set_is_left_to_the_provider() -> None:
    assert "gpu_mem_limit" not in parse_options("cuda").provider_options()
    assert parse_options("cuda").as_dict()["gpu_mem_limit"] == ""


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cuda", "fast=1", r"no option 'fast=1'. Valid are: device_id=a whole number from 0 up; cudnn_conv_algo"),
        ("cuda", "use_tf32", "no option 'use_tf32'. Valid are: "),
        ("cuda", "=1", "no option '=1'"),
        ("cuda", "use_tf32=maybe", "use_tf32 of provider cuda takes 1 or 0, not 'maybe'"),
        ("cuda", "cudnn_conv_algo_search=BEST", "takes HEURISTIC or EXHAUSTIVE or DEFAULT, not 'BEST'"),
        ("cuda", "gpu_mem_limit=1", "takes a whole number from 67108864 up, not '1'"),
        ("cuda", "gpu_mem_limit=--1", "not '--1'"),
        ("cpu", "intra_op_num_threads=0", "takes a whole number from 1 to 1024, not '0'"),
        ("cpu", "intra_op_num_threads=99999999999999999999", "takes a whole number from 1 to 1024"),
        ("tensorrt", "trt_builder_optimization_level=6", "takes a whole number from 0 to 5, not '6'"),
        ("tensorrt", "trt_engine_cache_path=x", "no option 'trt_engine_cache_path=x'"),
        ("openvino", "inference_precision=int4", "takes f32 or f16 or bf16, not 'int4'"),
    ],
)
def test_what_is_wrong_is_answered_with_what_is_right(name: ProviderName, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_options(name, (text,))


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="use_tf32 of provider cuda is given twice"):
        parse_options("cuda", ("use_tf32=1", "use_tf32=0"))


@pytest.mark.parametrize("name", ["cpu", "openvino"])
def test_a_provider_without_numbered_devices_takes_no_number(name: ProviderName) -> None:
    with pytest.raises(UsageError, match=f"Provider {name} has no devices to choose from by number"):
        parse_options(name, device_id=0)
    assert default_options(name, device_id=1) == parse_options(name)


def test_openvino_gets_its_settings_as_json_by_kind_of_device() -> None:
    told = parse_options("openvino", ("device=GPU", "inference_precision=f16")).provider_options()
    assert set(told) == {"load_config"}
    assert json.loads(told["load_config"]) == {"GPU": {"INFERENCE_PRECISION_HINT": "f16", "NUM_STREAMS": "1"}}


def test_engine_and_timing_cache_are_not_the_users_to_set() -> None:
    assert not [key for key in parse_options("tensorrt").as_dict() if "cache" in key]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_option_stands_in_the_documentation_with_its_default(name: ProviderName) -> None:
    text = DOCUMENTED.read_text(encoding="utf-8")
    for key, default in OPTIONS[name]().as_dict().items():
        assert f"| {name} | `{key}` | {default or 'not set'} |" in text
