import json

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.distributed.strategy import EXAMPLE, Cluster

TWO = {"worker": ["one:2222", "two:2222"]}
FIRST = {"type": "worker", "index": 0}


def test_cluster_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 1}}))
    assert Cluster.from_environment() == Cluster(("one:2222", "two:2222"), 1)


def test_the_example_of_the_message_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", EXAMPLE)
    assert Cluster.from_environment() == Cluster(("host0:2222", "host1:2222"), 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "it is not set"),
        ("{", "found {"),
        ("[]", "found []"),
        ({"cluster": TWO}, "found {"),
        ({"cluster": TWO, "task": 0}, "found {"),
        ({"cluster": TWO, "task": {"type": "worker", "index": "first"}}, "found {"),
        ({"cluster": {**TWO, "ps": ["three:2222"]}, "task": FIRST}, "only tasks of the type worker"),
        ({"cluster": TWO, "task": {"type": "chief", "index": 0}}, "only tasks of the type worker"),
        ({"cluster": {"worker": []}, "task": FIRST}, "two different workers at least are needed; found none"),
        ({"cluster": {"worker": ["one:2222"]}, "task": FIRST}, "two different workers"),
        ({"cluster": {"worker": ["one:1", "one:1"]}, "task": FIRST}, "two different workers"),
        ({"cluster": TWO, "task": {"type": "worker", "index": 2}}, "the index is 2, but there are 2 workers"),
        ({"cluster": {"worker": ["one", "two:2"]}, "task": FIRST}, "'one' is not host:port"),
        ({"cluster": {"worker": ["one:1", "two:65536"]}, "task": FIRST}, "'two:65536' is not host:port"),
        ({"cluster": {"worker": [1, 1]}, "task": FIRST}, "'1' is not host:port"),
    ],
)
def test_unusable_tf_config(config: object, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UsageError, match="needs the environment variable TF_CONFIG") as caught:
        Cluster.from_environment()
    assert message in str(caught.value)
