"""What can be said of a scan before a model judges it: named checks, each with its measured value."""

from ct3d_edge.passport.inspector import Inspector, Passport, input_sha256, remarks
from ct3d_edge.passport.recording import record
from ct3d_edge.passport.rules import RULES, Rule, check_codes, permissible

__all__ = ["RULES", "Inspector", "Passport", "Rule", "check_codes", "input_sha256", "permissible", "record", "remarks"]
