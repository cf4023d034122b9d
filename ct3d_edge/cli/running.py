"""A session as the options of `infer`, `verify` and `bench` describe it."""

from pathlib import Path
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
    no_build: bool,
    receipt: Path | None,
) -> "Runner":
    """Open a session, say on standard error what it came to, and write its receipt."""
    from ct3d_edge.atomic import require_writable
    from ct3d_edge.cli.terminal import say, say_receipt
    from ct3d_edge.runtime import Runner

    options = provider_options(provider, texts, device_id)
    if receipt:
        require_writable(receipt)
    runner = Runner(
        file,
        provider,
        allow_fallback=allow_fallback,
        options=options,
        device_id=device_id,
        build=not no_build,
        on_build=say,
    )
    say_receipt(runner.receipt)
    if receipt:
        runner.receipt.save(receipt)
        say(f"wrote {receipt}")
    return runner
