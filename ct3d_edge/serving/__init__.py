"""An HTTP server for one model: scans, tensors and metrics. Only here are starlette and uvicorn imported."""
