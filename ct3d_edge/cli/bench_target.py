"""What `bench` measures: a model on a provider, and the scans it is given."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.cli.options import ProviderOption, model_path

if TYPE_CHECKING:
    from ct3d_edge.runtime import ModelFile, Runner


@dataclass(frozen=True)
class Target:
    """The options that every scenario shares."""

    model: Path | None
    provider: ProviderOption
    allow_fallback: bool

    @cached_property
    def file(self) -> "ModelFile":
        """The checked model file."""
        from ct3d_edge.runtime import load_model_file

        return load_model_file(model_path(self.model))

    def open(self, threads: int | None = None) -> "Runner":
        """A session with so many threads."""
        from ct3d_edge.runtime import Runner

        return Runner(self.file, self.provider, allow_fallback=self.allow_fallback, threads=threads)


def timed_import() -> dict[str, float]:
    """Import what `infer` needs, before anything else has imported it."""
    began = time.perf_counter()
    from ct3d_edge import preprocess, runtime, scan  # noqa: F401

    return {"import": (time.perf_counter() - began) * 1e3}
