import pytest

from ct3d_edge.errors import MissingExtraError
from ct3d_edge.extras import require_extra


def test_what_is_installed_passes() -> None:
    require_extra("evaluate", ["numpy", "json"])


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(MissingExtraError, match=r'needs no_such_a, no_such_b, .*pip install "ct3d-edge\[evaluate\]"'):
        require_extra("evaluate", ["no_such_a", "numpy", "no_such_b"])


def test_a_distribution_of_another_name_is_named_as_pip_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs scikit-learn, not"):
        require_extra("evaluate", ["sklearn"])
