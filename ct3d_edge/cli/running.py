"""A session as the options of `infer`, `verify` and `bench` describe it."""

from typing import TYPE_CHECKING

from ct3d_edge.cli.options import provider_options
from ct3d_edge.provider_names import RequestedProvider

if TYPE_CHECKING:
    from ct3d_edge.runtime import ModelFile, Runner


def open_runner(
    file: "ModelFile",
    provider: RequestedProvider,
    allow_fallback: bool,
    texts: list[str] | None,
    device_id: int | None,
) -> "Runner":
    """Open a session and say on standard error what it came to."""
    from ct3d_edge.cli.terminal import say_receipt
    from ct3d_edge.runtime import Runner

    options = provider_options(provider, texts, device_id)
    runner = Runner(file, provider, allow_fallback=allow_fallback, options=options, device_id=device_id)
    say_receipt(runner.receipt)
    return runner
