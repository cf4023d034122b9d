import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from training_stats import RANGE, statistics

from ct3d_edge.contract import AXIS_CODES, NESTED_FIELDS, SCHEMA, SCHEMA_WITHOUT_TRAINING_STATS, Contract
from ct3d_edge.errors import ContractError

THREE = {"labels": ("a", "b", "c"), "outputs": 3}

TAUGHT = Contract(training_range=RANGE, feature_statistics=statistics())

EXAMPLES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "every field": {
        "shape": (16, 12, 8),
        "hu_window": (-1350.5, 150.0),
        "orientation": "PIR",
        "quarter_turns": 3,
        "channels": "first",
        "outputs": 3,
        "labels": ("a", "ä", "\N{SNOWMAN}"),
        "activation": "softmax",
        "threshold": 0.25,
        "temperature": 1.75,
        "training_range": RANGE,
        "feature_statistics": statistics(),
    },
    "range alone": {"training_range": RANGE},
    "stored order": {"orientation": "stored"},
    "two outputs": {"outputs": 2, "activation": "softmax"},
    "logit": {"activation": "sigmoid"},
    "no turn, no channel axis": {"quarter_turns": 0, "channels": "none"},
    "thresholds at the ends": {"threshold": 1},
}


@pytest.mark.parametrize("fields", EXAMPLES.values(), ids=EXAMPLES)
def test_json_brings_back_the_same_contract(fields: dict[str, Any]) -> None:
    contract = Contract(**fields)
    back = Contract.from_json(contract.to_json())
    assert back == contract
    assert back.sha256 == contract.sha256


@pytest.mark.parametrize("contract", [Contract(), TAUGHT], ids=["untaught", "taught"])
def test_json_is_canonical(contract: Contract) -> None:
    text = contract.to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_what_is_not_known_of_training_scans_leaves_version_and_hash_as_they_were() -> None:
    known, unknown = (json.loads(contract.to_json()) for contract in (TAUGHT, TAUGHT.without_training_stats))
    assert (known.pop("schema"), unknown.pop("schema")) == (SCHEMA, SCHEMA_WITHOUT_TRAINING_STATS)
    assert set(known) == set(asdict(TAUGHT))
    assert set(unknown) == set(known) - set(NESTED_FIELDS)
    assert TAUGHT.without_training_stats == Contract()
    assert Contract().sha256 == "878a43411652cd06455f73917fb025d7771c2f5f34943dc0cc5c4225af363ab9"


def test_the_order_and_spacing_of_the_json_do_not_matter() -> None:
    data = json.loads(Contract().to_json())
    shuffled = json.dumps(dict(reversed(data.items())), indent=2)
    assert Contract.from_json(shuffled).sha256 == Contract().sha256


CHANGES: list[dict[str, Any]] = [
    {"shape": (128, 128, 63)},
    {"hu_window": (-1000.0, 400.5)},
    {"orientation": "RAS"},
    {"orientation": "stored"},
    {"quarter_turns": 0},
    {"quarter_turns": 5},
    {"channels": "none"},
    {"outputs": 2},
    {"labels": ("abnormal", "normal")},
    {"activation": "sigmoid"},
    {"threshold": 0.500001},
    {"temperature": 1.000001},
    {"training_range": RANGE},
    {"training_range": replace(RANGE, scans=41)},
    {"feature_statistics": statistics()},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_field_changes_the_hash(change: dict[str, Any]) -> None:
    assert replace(Contract(), **change).sha256 != Contract().sha256


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"hu_window": (-1000, 400)}, {"hu_window": (-1000.0, 400.0)}),
        ({"threshold": 1}, {"threshold": 1.0}),
        ({"temperature": 2}, {"temperature": 2.0}),
        ({}, {}),
    ],
)
def test_equal_contracts_have_equal_hashes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert Contract(**one) == Contract(**other)
    assert Contract(**one).sha256 == Contract(**other).sha256


REFUSED: dict[str, list[Any]] = {
    "shape": [
        (128, 128),
        (128, 128, 64, 1),
        (128, 0, 64),
        (128, -1, 64),
        (128.0, 128, 64),
        (True, 2, 2),
        5,
        "abc",
    ],
    "hu_window": [
        (400, -1000),
        (0, 0),
        (-1000,),
        (-1000, 0, 400),
        (float("nan"), 400),
        (-1000, float("inf")),
        (float("-inf"), 0),
        ("a", "b"),
        None,
    ],
    "orientation": ["", "las", "LA", "LAA", "LASR", "XYZ", "Stored", None, 3],
    "quarter_turns": [1.0, "1", None, True],
    "interpolation": ["cubic", "", None],
    "channels": ["middle", "", None, 1],
    "activation": ["relu", "", None],
    "outputs": [True, 1.0, None, "1"],
    "labels": [(), ("only",), ("a", "a"), ("a", ""), ("a", "\x1b[31mb"), ("a", 1), "ab", 3, None, {}],
    "threshold": [-0.1, 1.1, float("nan"), "0.5", None, True],
    "training_range": [RANGE.extent_mm, 3],
    "feature_statistics": [(), "no"],
    "temperature": [0, -1, 0.0099, 101, float("nan"), float("inf"), "1", None, True],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in REFUSED.items() for value in values])
def test_a_value_that_cannot_be_followed_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ContractError, match=rf"^Contract: {field}\b.*(expected|must be) .*found "):
        replace(Contract(), **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"outputs": 0},
        {"outputs": 3},
        {"labels": ("a", "b", "c")},
        {"labels": ("a", "b", "c"), "outputs": 2},
        {"labels": ("a", "b", "c"), "outputs": 4},
    ],
    ids=str,
)
def test_labels_must_fit_the_outputs(fields: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match=r"labels do not fit a network with .* output"):
        Contract(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"activation": "softmax"},
        {"activation": "sigmoid", "outputs": 2},
        {"activation": "sigmoid", **THREE},
    ],
    ids=str,
)
def test_the_activation_must_fit_the_outputs(fields: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match=r"activation .* does not fit"):
        Contract(**fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "JSON list, not an object"),
        ("3", "JSON int, not an object"),
        ("null", "JSON NoneType, not an object"),
        ("{}", "schema version None"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        Contract.from_json(text)


@pytest.mark.parametrize("version", [0, 4, "1", None, [1], True])
def test_another_schema_version_is_refused(version: object) -> None:
    data = {**json.loads(Contract().to_json()), "schema": version}
    with pytest.raises(ContractError, match=r"schema version .*reads versions 1 to 3"):
        Contract.from_json(json.dumps(data))


def test_version_1_had_no_temperature() -> None:
    data = {**json.loads(Contract(threshold=0.25).to_json()), "schema": 1}
    with pytest.raises(ContractError, match=r"version 1: missing \[\], unknown \['temperature'\]"):
        Contract.from_json(json.dumps(data))
    del data["temperature"]
    assert Contract.from_json(json.dumps(data)) == Contract(threshold=0.25, temperature=1.0)


@pytest.mark.parametrize("field", asdict(TAUGHT))
def test_a_missing_field_is_named(field: str) -> None:
    data = json.loads(TAUGHT.to_json())
    del data[field]
    with pytest.raises(ContractError, match=rf"missing \['{field}'\], unknown \[\]"):
        Contract.from_json(json.dumps(data))


def test_an_unknown_field_is_named() -> None:
    data = {**json.loads(Contract().to_json()), "spacing": 1}
    with pytest.raises(ContractError, match=r"missing \[\], unknown \['spacing'\]"):
        Contract.from_json(json.dumps(data))


WRONG: tuple[object, ...] = ({}, [], [[1], 2, 3], "zzz", -7.5)


@pytest.mark.parametrize("field", asdict(TAUGHT))
def test_a_mistyped_field_is_a_contract_error(field: str) -> None:
    for value in (*WRONG, None) if field not in NESTED_FIELDS else WRONG:
        with pytest.raises(ContractError):
            Contract.from_json(json.dumps({**json.loads(TAUGHT.to_json()), field: value}))


@pytest.mark.parametrize(
    ("channels", "expected"),
    [("last", (16, 12, 8, 1)), ("first", (1, 16, 12, 8)), ("none", (16, 12, 8))],
)
def test_the_input_has_its_channel_axis_where_the_contract_says(channels: Any, expected: tuple[int, ...]) -> None:
    assert Contract(shape=(16, 12, 8), channels=channels).input_shape == expected


@pytest.mark.parametrize(
    ("threshold", "probability", "winner"),
    [
        (0.5, 0.4999999, 0),
        (0.5, 0.5, 1),
        (0.9, 0.89, 0),
        (0.9, 0.9, 1),
        (0, 0.0, 1),
        (1, 0.9999, 0),
        (1, 1.0, 1),
    ],
)
@pytest.mark.parametrize("outputs", [1, 2])
def test_between_two_classes_the_threshold_decides(
    outputs: int, threshold: float, probability: float, winner: int
) -> None:
    contract = Contract(outputs=outputs, threshold=threshold)
    assert contract.predicted_index([1 - probability, probability]) == winner


@pytest.mark.parametrize(
    ("probabilities", "winner"),
    [([0.2, 0.5, 0.3], 1), ([0.4, 0.3, 0.3], 0), ([0.1, 0.1, 0.8], 2), ([0.4, 0.4, 0.2], 0)],
)
def test_among_more_classes_the_most_probable_wins(probabilities: list[float], winner: int) -> None:
    assert Contract(labels=("a", "b", "c"), outputs=3, threshold=0.99).predicted_index(probabilities) == winner


@pytest.mark.parametrize("code", ["LAS", "PIR", "SLA"])
def test_an_axis_code_names_each_body_axis_once(code: str) -> None:
    assert Contract(orientation=code).orientation == code
    assert len(AXIS_CODES) == 48


INSIDE: list[tuple[str, str, object]] = [
    ("training_range", "scans", 0),
    ("training_range", "scans", True),
    ("training_range", "slices", [40, 28]),
    ("training_range", "slices", [0, 28]),
    ("training_range", "slices", ["a", "b"]),
    ("training_range", "extent_mm", [[1, 2], [1, 2]]),
    ("training_range", "extent_mm", [[1, 2], [1, 2], [1, 2, 3]]),
    ("training_range", "spacing_mm", None),
    ("feature_statistics", "mean", [1.0]),
    ("feature_statistics", "mean", []),
    ("feature_statistics", "mean", 3),
    ("feature_statistics", "directions", [1.0, 2.0]),
    ("feature_statistics", "variances", []),
    ("feature_statistics", "residual_variance", 0),
    ("feature_statistics", "threshold", -1),
    ("feature_statistics", "threshold", None),
    ("feature_statistics", "scans", 1.5),
    ("feature_statistics", "held_out", 0),
    ("feature_statistics", "more", 0),
]


@pytest.mark.parametrize(("part", "field", "value"), INSIDE)
def test_what_a_part_holds_is_checked(part: str, field: str, value: object) -> None:
    data = json.loads(TAUGHT.to_json())
    data[part][field] = value
    with pytest.raises(ContractError, match=rf"^Contract: {part}.*\b{field}\b"):
        Contract.from_json(json.dumps(data))
