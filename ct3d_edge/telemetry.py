"""Telemetry of libraries, switched off before they are imported. What was looked at: docs/security.md."""

import os
import sys
import warnings

TELEMETRY_VARIABLES = {
    # ONNX Runtime from 1.31 on, on Linux: a file in the home folder at import, a host of Microsoft about 10 s later.
    # It reads this once, when it is imported; `onnxruntime.disable_telemetry_events()` comes too late.
    "ORT_DISABLE_TELEMETRY": "1",
    # Ray reports usage of a cluster that it starts to its makers.
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variable of the environment, and the value that switches telemetry off."""


def disable_telemetry() -> None:
    """Set `TELEMETRY_VARIABLES`, whatever they were set to, for this process and those that it starts.

    A user who wants to send telemetry has no means to do so: scans are patients' data, and a variable that is left in
    an environment by mistake must not decide about them.

    Warns
    -----
    RuntimeWarning
        If ONNX Runtime was imported before with its telemetry on: nothing can switch it off in this process any more.
    """
    late = "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1"
    os.environ.update(TELEMETRY_VARIABLES)
    if late and sys.platform == "linux":
        warnings.warn(
            "onnxruntime was imported before ct3d_edge: its telemetry may be on in this process, and cannot be "
            "switched off any more. Import ct3d_edge first, or start the program with ORT_DISABLE_TELEMETRY=1.",
            RuntimeWarning,
            stacklevel=3,
        )
