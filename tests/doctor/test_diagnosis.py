import json

import pytest

from ct3d_edge.doctor.diagnosis import OnnxruntimeInstallation, SystemReport, check_system
from ct3d_edge.doctor.smoke_test_process import ProviderStatus
from ct3d_edge.providers.names import PROVIDERS, ProviderName
from ct3d_edge.system import machine


def trial(name: ProviderName, runs: bool) -> ProviderStatus:
    return ProviderStatus(name, compiled_in=True, loadable=runs, runs=runs, detail="made up")


def diagnosis(*working: ProviderName, **changes: object) -> SystemReport:
    values: dict[str, object] = {
        "provider_statuses": tuple(trial(name, name in working) for name in PROVIDERS),
        "installation": OnnxruntimeInstallation((("onnxruntime-gpu", "1.31.1"),)),
        "cpu": "Some CPU",
        "features": {"AVX2": True, "AVX-512": False, "VNNI": False, "AMX": False},
        "cores_present": 4,
        "cores_usable": 4,
        "quota": None,
        "memory": 2**30,
    }
    return SystemReport(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("working", "automatic"),
    [
        (("cpu",), ("cpu",)),
        (("cuda", "cpu"), ("cuda",)),
        (("nv-tensorrt-rtx", "openvino", "cpu"), ("cpu",)),
        (("tensorrt", "cuda", "cpu"), ("tensorrt", "cuda")),
        ((), ()),
    ],
)
def test_auto_takes_the_best_that_is_no_plugin(
    working: tuple[ProviderName, ...], automatic: tuple[ProviderName, ...]
) -> None:
    found = diagnosis(*working)
    assert found.auto_providers == automatic
    assert found.working_providers == working


def test_all_is_well_without_advice() -> None:
    assert list(diagnosis("cpu").advice()) == []


def test_what_is_not_as_it_should_be_becomes_advice() -> None:
    found = diagnosis(
        "cpu",
        installation=OnnxruntimeInstallation((("onnxruntime", "1.31.1"), ("onnxruntime-gpu", "1.31.1"))),
        features={"AVX2": False},
        cores_usable=2,
        quota=1.5,
    )
    distributions, features, cores = found.advice()
    assert "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in distributions
    assert "no AVX2" in features
    assert cores == "This process may use 2 of 4 cores, by its container's quota."
    (by_affinity,) = diagnosis("cpu", cores_usable=2).advice()
    assert by_affinity.endswith("by its affinity.")


def test_every_provider_is_tried_in_order_and_told_of_before() -> None:
    heard: list[str] = []
    found = check_system(lambda name: trial(name, runs=name == "cpu"), heard.append)
    assert heard == [entry.name for entry in found.provider_statuses] == list(PROVIDERS)
    assert found.cores_usable == machine.count_usable_cores()


def test_the_json_form_is_plain_data() -> None:
    told = diagnosis("cpu").to_dict()
    assert json.loads(json.dumps(told))["automatic"] == ["cpu"]
    assert told["schema"] == 1
    assert [entry["name"] for entry in told["providers"]] == list(PROVIDERS)
