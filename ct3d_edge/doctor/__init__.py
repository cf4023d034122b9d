"""What can run here, what cannot, and what would help. Nothing broken may break it: each provider is tried apart."""

from ct3d_edge.doctor.diagnosis import Diagnosis, diagnose
from ct3d_edge.doctor.installation import Installation, inspect_installation
from ct3d_edge.doctor.trial import Trial, try_provider

__all__ = ["Diagnosis", "Installation", "Trial", "diagnose", "inspect_installation", "try_provider"]
