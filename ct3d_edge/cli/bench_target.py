"""What `bench` measures: a model on a provider, and the scans it is given."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.cli.options import ProviderOption, model_path
from ct3d_edge.cli.tuned import tuned_options

if TYPE_CHECKING:
    from ct3d_edge.runtime import ModelFile, Runner
    from ct3d_edge.tuning import InUse


@dataclass(frozen=True)
class Target:
    """The options that every scenario shares."""

    model: Path | None
    provider: ProviderOption
    allow_fallback: bool
    provider_option: list[str] | None = None
    device_id: int | None = None
    no_build: bool = False
    receipt: Path | None = None
    tuned: "InUse | None" = None

    @cached_property
    def file(self) -> "ModelFile":
        """The checked model file."""
        from ct3d_edge.runtime import load_model_file

        return load_model_file(self.tuned.file if self.tuned else model_path(self.model))

    def open(self, threads: int | None = None) -> "Runner":
        """A session with so many threads, else the chosen ones; its receipt is written if that was asked for."""
        from ct3d_edge.cli.terminal import say
        from ct3d_edge.runtime import Runner

        runner = Runner(
            self.file,
            self.provider,
            allow_fallback=self.allow_fallback,
            threads=threads or (self.tuned.choice.candidate.threads if self.tuned else None),
            options=tuned_options(self.tuned, self.provider, self.provider_option, self.device_id),
            device_id=self.device_id,
            build=not self.no_build,
            on_build=say,
            choice=self.tuned.digest if self.tuned else None,
        )
        if self.receipt:
            runner.receipt.save(self.receipt)
            say(f"wrote {self.receipt}")
        return runner


def timed_import() -> dict[str, float]:
    """Import what `infer` needs, before anything else has imported it."""
    began = time.perf_counter()
    from ct3d_edge.preprocess import preprocess  # noqa: F401
    from ct3d_edge.runtime.runner import Runner  # noqa: F401
    from ct3d_edge.scan.door import open_scan  # noqa: F401

    return {"import": (time.perf_counter() - began) * 1e3}
