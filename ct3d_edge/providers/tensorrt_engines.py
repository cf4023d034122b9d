"""TensorRT engines stored between runs: each is built once, and only an engine that was built here is loaded.

ONNX Runtime names an engine after the graph's structure alone: another model's weights or another shape would find it
too (onnxruntime#6455). So each engine has a folder of its own here, named by a hash of everything that it depends on::

    engines/                             0700, this user's alone
      nvidia-rtx-a2000-sm86/             one folder a GPU model
        timing/                          TensorRT's timing cache: measurements, no code
        3f6c.../                         one engine: what TensorRT wrote, and manifest.json with key and hashes
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ct3d_edge.errors import ProviderError
from ct3d_edge.system.secure_dir import insecure_reason, make_secure_dir

SCHEMA = 1
"""Version of the manifest; part of the key, so that another version's engines are not found."""

MANIFEST = "manifest.json"

PARTIAL_BUILD_PREFIX = ".building-"

STALE_BUILD_S = 24 * 3600
"""No build takes this long: a folder of this age belongs to one that was killed."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on.

    Parameters
    ----------
    model_sha256
        Of the model file's bytes.
    shapes
        ``(input, shape)`` with the batch axis.
    options
        ``(option, value)`` of the provider.
    versions
        ``(name, version)`` of ONNX Runtime, CUDA, TensorRT, the driver and the like.
    gpu
        Name of the GPU, and its compute capability.
    """

    model_sha256: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    options: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str | None], ...]
    gpu: tuple[str, tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a manifest."""
        plain: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **asdict(self)}))
        return plain

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def gpu_folder(self) -> str:
        """Name of the folder of this GPU model."""
        name, (major, minor) = self.gpu
        return f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}-sm{major}{minor}"


@dataclass(frozen=True)
class StoredEngine:
    """An engine that was built by this user for exactly one key, and has not changed since.

    Parameters
    ----------
    folder, key
        Where it is and what for.
    seconds
        How long its build took.
    """

    folder: Path
    key: EngineKey
    seconds: float


class EngineStore:
    """The engines in one folder.

    Parameters
    ----------
    root
        The folder; the user's own by default, or what ``CT3D_EDGE_ENGINES`` names.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_engine_folder() if root is None else root

    def engine_folder(self, key: EngineKey) -> Path:
        """Where the engine of a key is, or would be."""
        return self.root / key.gpu_folder / key.digest

    def timing(self, key: EngineKey) -> Path:
        """Folder of TensorRT's timing cache for a GPU model; made if it is not there."""
        folder = self.root / key.gpu_folder / "timing"
        self._make_secure(folder)
        return folder

    def find(self, key: EngineKey) -> StoredEngine | str:
        """The engine of a key, or the reason why there is none that may be loaded.

        Raises
        ------
        ProviderError
            If others can write to the folder that holds the engines.
        """
        folder = self.engine_folder(key)
        self._make_secure(folder.parent)
        if not os.path.lexists(folder):
            return "no engine has been built for this model, GPU and software"
        try:
            return StoredEngine(folder, key, _verify_engine(folder, key))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"the engine in {folder} is not as it was built ({error})"

    def build(self, key: EngineKey, make: Callable[[Path], None]) -> StoredEngine:
        """Let ``make`` write an engine into an empty folder and keep it; it appears complete or not at all.

        Raises
        ------
        ProviderError
            If nothing was written, or the folder cannot be used.
        """
        folder = self.engine_folder(key)
        self._make_secure(folder.parent)
        _remove_stale_builds(folder.parent)
        part = Path(tempfile.mkdtemp(prefix=PARTIAL_BUILD_PREFIX, dir=folder.parent))
        try:
            begin = time.perf_counter()
            make(part)
            _write_manifest(part, key, time.perf_counter() - begin)
            if isinstance(self.find(key), str):  # no other process was quicker
                _move_into_place(part, folder)
        except OSError as error:
            raise ProviderError(f"the engine cannot be stored in {folder}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        found = self.find(key)
        if isinstance(found, str):
            raise ProviderError(f"the engine was built but cannot be used: {found}")
        return found

    def check_unchanged(self, engine: StoredEngine) -> None:
        """Make sure, once a session is open, that it took the engine that was checked and built none of its own.

        Raises
        ------
        ProviderError
            If the engine's folder is not what it was.
        """
        found = self.find(engine.key)
        if isinstance(found, str):
            shutil.rmtree(engine.folder, ignore_errors=True)
            raise ProviderError(f"TensorRT did not take the engine that was built for it ({found}); build it again")

    def _make_secure(self, folder: Path) -> None:
        """A folder of the store, and its parents up to the root."""
        for each in reversed([folder, *folder.parents]):
            if each.is_relative_to(self.root):
                make_secure_dir(each)


def default_engine_folder() -> Path:
    """The user's own folder for engines: ``CT3D_EDGE_ENGINES``, or a folder in the user's cache."""
    named = os.environ.get("CT3D_EDGE_ENGINES")
    if named:
        return Path(named)
    caches = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(caches or Path.home() / ".cache") / "ct3d-edge" / "engines"


def _write_manifest(part: Path, key: EngineKey, seconds: float) -> None:
    """Write down what was built."""
    files = _hash_files(part)
    if not any(name.endswith(".engine") for name in files):
        raise ProviderError("TensorRT built no engine: it took none of the model")
    manifest = {
        "key": key.to_dict(),
        "files": files,
        "seconds": seconds,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (part / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in part.iterdir():
        path.chmod(0o600)


def _move_into_place(part: Path, folder: Path) -> None:
    """Give a finished folder its name; whatever had that name, of whatever kind, was not as it was built."""
    if os.path.lexists(folder):
        old = Path(tempfile.mkdtemp(prefix=PARTIAL_BUILD_PREFIX, dir=folder.parent))
        folder.rename(old / "old")
        shutil.rmtree(old, ignore_errors=True)  # which does not follow links
    part.rename(folder)


def _remove_stale_builds(folder: Path) -> None:
    """Remove what builds that were killed left behind."""
    for part in folder.glob(PARTIAL_BUILD_PREFIX + "*"):
        with contextlib.suppress(FileNotFoundError):  # another process sweeps, or has finished its build
            if time.time() - part.lstat().st_mtime > STALE_BUILD_S:
                shutil.rmtree(part, ignore_errors=True)


def _verify_engine(folder: Path, key: EngineKey) -> float:
    """How long the build took, if all of the folder is as it was then.

    Raises
    ------
    ValueError
        If anything is not.
    """
    for path in (folder, *folder.iterdir()):
        reason = insecure_reason(path)
        if reason:
            raise ValueError(reason)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["key"] != key.to_dict():
        raise ValueError("it was built for something else")
    if manifest["files"] != _hash_files(folder):
        raise ValueError("its files have changed")
    return float(manifest["seconds"])


def _hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the manifest, by name; there are no folders among them."""
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
