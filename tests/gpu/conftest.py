"""The providers of an NVIDIA card, a phantom, and the bundled model on that card."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan
from ct3d_edge.modelfile.model_file import default_model_path, load_model_file
from ct3d_edge.providers.availability import find_provider_issue, get_provider
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner


@pytest.fixture(scope="session", params=["cuda", "tensorrt"])
def provider(request: pytest.FixtureRequest) -> ProviderName:
    """Each provider of an NVIDIA card that works here; the skip of another one says what it lacks."""
    name: ProviderName = request.param
    issue = find_provider_issue(get_provider(name))
    if issue:
        pytest.skip(f"needs an NVIDIA card that the provider {name} can use: {issue}")
    return name


@pytest.fixture(scope="session")
def runner(provider: ProviderName, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """The bundled model in a session on the card; TensorRT builds its engine in a cache of this test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with Runner(load_model_file(default_model_path()), SessionRequest(provider)) as session:
            yield session


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of 256 x 256 x 40 voxels."""
    path = tmp_path_factory.mktemp("scans") / "phantom.nii.gz"
    save_scan(make_phantom(7, abnormal=True, shape=(256, 256, 40)), path)
    return path
