import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.tuning.cache import (
    ActiveTuning,
    keep_other_provider,
    load_tuning,
    parse_tuning_result,
    tuned_model_path,
    tuning_result_path,
)
from ct3d_edge.tuning.result import TuningResult, tuning_key

from .conftest import MakeChoice


def test_a_choice_survives_its_file(given: ModelFile, make_choice: MakeChoice) -> None:
    choice = make_choice(given.path, 2, (("allow_spinning", "0"),))
    assert parse_tuning_result(choice.to_json().encode()) == choice


def test_without_a_choice_there_is_nothing_to_say(given: ModelFile) -> None:
    assert load_tuning(given.path, "cpu") is None


@pytest.mark.parametrize("requested", ["cpu", "auto"])
def test_a_choice_made_here_is_in_use(given: ModelFile, make_choice: MakeChoice, requested: Any) -> None:
    choice = make_choice(given.path)
    if requested == "auto" and tuning_key("", "cpu").gpu:
        pytest.skip("auto is a GPU here")
    found = load_tuning(given.path, requested)
    assert isinstance(found, ActiveTuning)
    assert (found.choice, found.file) == (choice, given.path)


def test_another_form_of_the_graph_runs_only_as_it_was_chosen(
    given: ModelFile, wrong: ModelFile, make_choice: MakeChoice
) -> None:
    make_choice(given.path, file_sha256=wrong.sha256)
    place = tuned_model_path(given.path)
    assert load_tuning(given.path, "cpu") == f"{place} cannot be read: No such file or directory"
    place.write_bytes(given.data)
    assert load_tuning(given.path, "cpu") == "model.tuned.onnx is not the file that was chosen"
    place.write_bytes(wrong.data)
    found = load_tuning(given.path, "cpu")
    assert isinstance(found, ActiveTuning)
    assert found.file == place


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_sha256": "0" * 64}, "made for another model file"),
        ({"processor": "Abacus 3"}, "made on another processor (Abacus 3; here it is "),
        ({"cores": 999}, "made with another number of cores (999; here it is "),
        ({"gpu": "A2000"}, "made on another GPU (A2000; here it is None)"),
        ({"provider": "openvino"}, "made for another provider (openvino; here it is cpu)"),
        ({"versions": {"onnxruntime": "1.0"}}, "made with ct3d-edge None; here it is "),
    ],
)
def test_a_choice_made_elsewhere_is_left_aside_with_the_reason(
    given: ModelFile, make_choice: MakeChoice, changes: dict[str, Any], reason: str
) -> None:
    choice = make_choice(given.path)
    other = replace(choice, key=replace(choice.key, **changes))
    tuning_result_path(given.path).write_text(other.to_json())
    found = load_tuning(given.path, "cpu")
    assert isinstance(found, str)
    assert found.startswith(reason)


def test_a_version_that_changed_is_named(given: ModelFile) -> None:
    here = tuning_key(given.sha256, "cpu")
    older = replace(here, versions={**here.versions, "onnxruntime": "0.9"})
    assert str(older.mismatch_reason(here)).startswith("made with onnxruntime 0.9; here it is ")
    assert here.mismatch_reason(here) is None


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(told: Any) -> None:
        for step in path[:-1]:
            told = told[step]
        told[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("schema", to=1), "not a tuning result of version 2"),
        (_set("chosen", to=7), "`chosen` is 7, but there are 3 candidates"),
        (_set("chosen", to=True), "chosen: expected `int`, found True"),
        (_set("chosen", to=2), "The selected candidate was dropped or never timed"),
        (_set("key", to=[]), "key: expected `object`, found []"),
        (_set("key", "provider", to="abacus"), "key.provider: invalid enum value 'abacus'"),
        (_set("candidates", 1, "level", to="../../etc"), "candidates[1].level: invalid enum value '../../etc'"),
        (_set("candidates", 1, "precision", to="fp7"), "candidates[1].precision: invalid enum value 'fp7'"),
        (_set("proof", "limits", to={"fp7": 1.0}), "invalid enum value 'fp7'"),
        (_set("proof", "limits", to={"fp32": "wide"}), "proof.limits[...]: expected `float`, got `str`"),
        (_set("proof", "limits", to={"int8": 0.02}), "It computes in fp32, for which its parity check has no limit"),
        (_set("candidates", 1, "precision", to="int8"), "It computes in int8, for which its parity check has no limit"),
        (_set("candidates", 1, "threads", to=0), "candidates[1].threads: expected `int` >= 1, found 0"),
        (_set("candidates", 1, "options", to={"allow_spinning": "maybe"}), "takes 1 or 0, not 'maybe'"),
        (_set("candidates", 1, "samples_ms", to=["1"]), "candidates[1].samples_ms[0]: expected `float`, found '1'"),
        (_set("candidates", 1, to=None), "candidates[1]: expected `object`, found None"),
        (_set("memory_budget", to="lots"), "memory_budget: expected `int | null`, found 'lots'"),
    ],
)
def test_what_is_no_choice_is_left_aside_with_the_reason(
    given: ModelFile, make_choice: MakeChoice, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    told = json.loads(make_choice(given.path).to_json())
    change(told)
    tuning_result_path(given.path).write_text(json.dumps(told))
    found = load_tuning(given.path, "cpu")
    assert isinstance(found, str)
    assert found.startswith("it is damaged: ")
    assert reason in found


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": NaN}', b"[" * 100_000])
def test_bytes_that_are_no_json_object_are_left_aside(given: ModelFile, data: bytes) -> None:
    tuning_result_path(given.path).write_bytes(data)
    assert str(load_tuning(given.path, "cpu")).startswith("it is damaged: ")


def for_provider(choice: TuningResult, provider: ProviderName) -> TuningResult:
    """The same choice, made here for another provider."""
    options = [replace(result, candidate=replace(result.candidate, options=())) for result in choice.results]
    return replace(choice, key=tuning_key(choice.key.model_sha256, provider), results=tuple(options))


def test_each_provider_keeps_its_own_choice(given: ModelFile, make_choice: MakeChoice) -> None:
    mine = make_choice(given.path)
    other = for_provider(mine, "openvino")
    assert load_tuning(given.path, "openvino") is None, "that of the CPU is no news for another provider"
    tuning_result_path(given.path, "openvino").write_text(other.to_json())
    for provider, expected in (("cpu", mine), ("openvino", other)):
        found = load_tuning(given.path, provider)  # type: ignore[arg-type]
        assert isinstance(found, ActiveTuning)
        assert found.choice == expected


def test_a_choice_where_all_providers_had_theirs_is_read_and_gets_its_own_name(
    given: ModelFile, wrong: ModelFile, make_choice: MakeChoice
) -> None:
    other = for_provider(make_choice(given.path, file_sha256=wrong.sha256), "openvino")
    tuning_result_path(given.path).write_text(other.to_json())
    tuned_model_path(given.path).write_bytes(wrong.data)
    for moved in (False, True):
        if moved:
            keep_other_provider(given.path, "cpu")
        found = load_tuning(given.path, "openvino")
        assert isinstance(found, ActiveTuning)
        assert (found.choice, found.file) == (other, tuned_model_path(given.path, "openvino" if moved else "cpu"))
    assert not tuning_result_path(given.path).exists()
    assert load_tuning(given.path, "cpu") is None


def test_auto_follows_the_fastest_of_the_compared_providers(
    given: ModelFile, make_choice: MakeChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a plugin were installed, and were not."""
    mine = replace(make_choice(given.path), fastest_provider="openvino")
    other = replace(for_provider(mine, "openvino"), fastest_provider="openvino")
    monkeypatch.setattr(
        "ct3d_edge.tuning.cache.find_expected_provider", lambda asked: "cpu" if asked == "auto" else asked
    )
    for choice in (mine, other):
        tuning_result_path(given.path, choice.key.provider).write_text(choice.to_json())
    for installed, requested, expected in (
        (True, "auto", other),
        (True, "cpu", mine),
        (False, "auto", mine),
    ):
        monkeypatch.setattr("ct3d_edge.tuning.cache.is_available", lambda _, found=installed: found)
        found = load_tuning(given.path, requested)  # type: ignore[arg-type]
        assert isinstance(found, ActiveTuning)
        assert found.choice == expected
    tuning_result_path(given.path, "openvino").write_text(other.to_json().replace(other.key.processor, "Abacus 3"))
    monkeypatch.setattr("ct3d_edge.tuning.cache.is_available", lambda _: True)
    found = load_tuning(given.path, "auto")
    assert isinstance(found, ActiveTuning)
    assert found.choice == mine, "the other one was made on another processor"
