"""Engines are made up here; everything that decides whether one is loaded is not."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ct3d_edge.errors import ProviderError
from ct3d_edge.providers.tensorrt_engines import EngineKey, EngineStore, StoredEngine, default_engine_folder

KEY = EngineKey(
    model_sha256="ab" * 32,
    shapes=(("volume", (1, 16, 12, 8, 1)),),
    options=(("trt_builder_optimization_level", "3"),),
    versions=(("onnxruntime", "1.31.1"), ("cuda", "13.0"), ("tensorrt", "10.13.3"), ("driver", "580.65.06")),
    gpu=("NVIDIA RTX A2000 (12GB)", (8, 6)),
)


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def write(folder: Path) -> None:
    (folder / "graph_sm86.engine").write_bytes(b"native code")
    (folder / "graph_sm86.profile").write_bytes(b"shapes")


def built(store: EngineStore, key: EngineKey = KEY) -> StoredEngine:
    return store.build(key, write)


def reason(store: EngineStore, key: EngineKey = KEY) -> str:
    found = store.find(key)
    assert isinstance(found, str), "an engine was found that must not be"
    return found


def test_what_was_built_is_found_again(store: EngineStore) -> None:
    assert reason(store) == "no engine has been built for this model, GPU and software"
    engine = built(store)
    assert store.find(KEY) == engine
    assert (engine.folder / "graph_sm86.engine").read_bytes() == b"native code"
    assert engine.folder == store.root / "nvidia-rtx-a2000-12gb-sm86" / KEY.digest
    assert 0 <= engine.seconds < 60
    store.check_unchanged(engine)


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "cd" * 32},
        {"shapes": (("volume", (2, 16, 12, 8, 1)),)},
        {"shapes": (("scan", (1, 16, 12, 8, 1)),)},
        {"options": (("trt_builder_optimization_level", "5"),)},
        *({"versions": tuple((n, "0" if n == name else v) for n, v in KEY.versions)} for name, _ in KEY.versions),
        {"versions": tuple((n, None if n == "driver" else v) for n, v in KEY.versions)},
        {"gpu": ("NVIDIA RTX A4000", (8, 6))},
        {"gpu": ("NVIDIA RTX A2000 (12GB)", (8, 9))},
    ],
)
def test_an_engine_for_anything_else_is_not_found(store: EngineStore, change: dict[str, object]) -> None:
    built(store)
    other = replace(KEY, **change)  # type: ignore[arg-type]
    assert other.digest != KEY.digest
    assert reason(store, other).startswith("no engine has been built")


def test_an_engine_put_into_anothers_place_is_not_loaded(store: EngineStore) -> None:
    other = replace(KEY, model_sha256="cd" * 32)
    shutil.copytree(built(store).folder, store.engine_folder(other))
    assert "it was built for something else" in reason(store, other)


def tamper_bytes(folder: Path) -> None:
    (folder / "graph_sm86.engine").write_bytes(b"native c0de")


def tamper_added(folder: Path) -> None:
    (folder / "other.engine").write_bytes(b"more")


def tamper_removed(folder: Path) -> None:
    (folder / "graph_sm86.profile").unlink()


def tamper_link(folder: Path) -> None:
    (folder / "graph_sm86.engine").rename(folder.parent / "moved")
    (folder / "graph_sm86.engine").symlink_to(folder.parent / "moved")


def tamper_writable_file(folder: Path) -> None:
    (folder / "graph_sm86.engine").chmod(0o666)


def tamper_writable_folder(folder: Path) -> None:
    folder.chmod(0o777)


def tamper_folder(folder: Path) -> None:
    (folder / "more").mkdir()


def tamper_manifest_gone(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def tamper_manifest_text(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 5)


def tamper_manifest_list(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def tamper_into_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


def tamper_into_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("tamper", [value for name, value in list(globals().items()) if name.startswith("tamper_")])
def test_an_engine_that_is_not_as_it_was_built_is_never_loaded_and_can_be_built_again(
    store: EngineStore, tamper: Callable[[Path], None]
) -> None:
    engine = built(store)
    tamper(engine.folder)
    assert "is not as it was built" in reason(store)
    assert built(store) == store.find(KEY)


def test_a_session_that_built_its_own_engine_is_caught(store: EngineStore) -> None:
    engine = built(store)
    tamper_added(engine.folder)
    with pytest.raises(ProviderError, match="did not take the engine that was built for it"):
        store.check_unchanged(engine)
    assert reason(store).startswith("no engine has been built"), "it is gone"


@pytest.mark.skipif(os.name != "posix", reason="this system has no POSIX permissions")
def test_everything_kept_is_the_users_alone(store: EngineStore) -> None:
    engine = built(store)
    timing = store.timing(KEY)
    for folder in (store.root, engine.folder.parent, engine.folder, timing):
        assert folder.stat().st_mode & 0o777 == 0o700
    for path in engine.folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="this system has no POSIX permissions")
@pytest.mark.parametrize("level", ["root", "gpu"])
def test_a_store_that_others_can_write_to_is_refused(store: EngineStore, level: str) -> None:
    engine = built(store)
    (store.root if level == "root" else engine.folder.parent).chmod(0o770)
    with pytest.raises(ProviderError, match="others can write to"):
        store.find(KEY)
    with pytest.raises(ProviderError, match="others can write to"):
        built(store)


def fail(folder: Path) -> None:
    write(folder)
    raise ProviderError("out of memory")


def test_a_build_that_fails_leaves_nothing(store: EngineStore) -> None:
    with pytest.raises(ProviderError, match="out of memory"):
        store.build(KEY, fail)
    assert list((store.root / KEY.gpu_folder).iterdir()) == []
    with pytest.raises(ProviderError, match="built no engine"):
        store.build(KEY, lambda _: None)


def test_a_failed_build_does_not_cost_the_engine_that_is_there(store: EngineStore) -> None:
    engine = built(store)
    with pytest.raises(ProviderError):
        store.build(KEY, fail)
    assert store.find(KEY) == engine


def test_of_two_builds_at_once_the_first_to_finish_stays(store: EngineStore) -> None:
    def slower(folder: Path) -> None:
        built(store)
        (folder / "graph_sm86.engine").write_bytes(b"of the second")

    found = store.build(KEY, slower)
    assert (found.folder / "graph_sm86.engine").read_bytes() == b"native code"
    assert [path.name for path in found.folder.parent.iterdir()] == [KEY.digest]


def test_what_killed_builds_left_is_swept_away_a_day_later(store: EngineStore) -> None:
    built(store)
    left = store.root / KEY.gpu_folder / ".building-left"
    at_work = store.root / KEY.gpu_folder / ".building-now"
    for folder in (left, at_work):
        folder.mkdir()
    os.utime(left, (time.time() - 25 * 3600,) * 2)
    store.build(KEY, write)
    assert (left.exists(), at_work.exists()) == (False, True)


def test_the_manifest_says_what_it_was_built_for(store: EngineStore) -> None:
    manifest = json.loads((built(store).folder / "manifest.json").read_text())
    assert manifest["key"]["model_sha256"] == KEY.model_sha256
    assert manifest["key"]["gpu"] == ["NVIDIA RTX A2000 (12GB)", [8, 6]]
    assert set(manifest["files"]) == {"graph_sm86.engine", "graph_sm86.profile"}


def test_the_store_is_in_the_users_cache_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CT3D_EDGE_ENGINES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_engine_folder() == tmp_path / "ct3d-edge" / "engines"
    monkeypatch.setenv("CT3D_EDGE_ENGINES", str(tmp_path / "mine"))
    assert EngineStore().root == tmp_path / "mine"
