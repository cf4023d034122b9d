"""Folders from which model servers load a model: Triton, OpenVINO Model Server, KServe."""
