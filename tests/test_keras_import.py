import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.keras_backend import import_keras


def test_another_keras_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct3d_edge.keras_backend.REQUIRED_MODULES", ())
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(UsageError, match="KERAS_BACKEND is 'torch'"):
        import_keras()
