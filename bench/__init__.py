"""The questions that were measured. Whatever a module here imports, the telemetry of libraries is off before."""

import ct3d_edge  # noqa: F401
