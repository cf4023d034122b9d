"""The settings of inference are checked where they are made."""

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.load_model import load_model


def test_checks_are_those_that_can_be_downgraded_by_their_present_names() -> None:
    assert InferenceConfig(allow=frozenset({"not_hu", "spacing"})).allow == {"intensity_not_hu", "spacing"}
    for wrong in ("no_such", "multiple_volumes"):
        with pytest.raises(UsageError, match=wrong):
            InferenceConfig(allow=frozenset({wrong}))


def test_options_belong_to_a_named_provider() -> None:
    with pytest.raises(UsageError, match=r"belongs to one provider\. Name it with `provider`"):
        InferenceConfig(provider_options=("intra_op_num_threads=1",))
    with pytest.raises(UsageError, match="Provider cpu has no option"):
        InferenceConfig("cpu", provider_options=("wings=2",))
    with pytest.raises(UsageError, match="takes several texts"):
        load_model(provider="cpu", provider_options="intra_op_num_threads=1")
