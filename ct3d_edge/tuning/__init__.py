"""The fastest proven way to run a model on this device: candidates, their measurement, and the choice kept beside it.

Looking a choice up needs neither the passes nor a measurement; those are imported from their files by whoever tunes.
"""

from ct3d_edge.tuning.candidate import Candidate, Form, Result
from ct3d_edge.tuning.choice import TunedChoice, choice_path, choose, require_room, tuned_model_path
from ct3d_edge.tuning.key import Key, key_of
from ct3d_edge.tuning.lookup import InUse, look_up

__all__ = [
    "Candidate",
    "Form",
    "InUse",
    "Key",
    "Result",
    "TunedChoice",
    "choice_path",
    "choose",
    "key_of",
    "look_up",
    "require_room",
    "tuned_model_path",
]
