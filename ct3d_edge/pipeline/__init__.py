"""Scans through reading, preprocessing and a session, one record each."""

from ct3d_edge.pipeline.analyse import Analysis, analyse, analyse_scan, decide

__all__ = ["Analysis", "analyse", "analyse_scan", "decide"]
