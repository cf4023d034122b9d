import pytest

from ct3d_edge import conversion


def test_the_public_list_is_exact() -> None:
    assert set(conversion.__all__) == set(conversion._HOMES)


@pytest.mark.parametrize("name", conversion.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(conversion, name) is not None


def test_a_name_that_is_not_public_does_not_resolve() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = conversion.nothing
