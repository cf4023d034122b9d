"""The same work done by what a user would pick instead, one small file each.

A peer has ``NEEDS`` (modules it imports), ``PACKAGES`` (distributions whose versions matter), and one or both of
``network(fixture, threads, **options)`` and ``preprocessing(fixture, threads, **options)``. They return a callable:
``(N, W, H, D)`` float32 to ``(N, outputs)``, and a scan file to ``(W, H, D)`` float32. Nothing is imported before it is
called: a peer that is not installed is named and left out. A network that takes ``batch`` is told how many volumes come
at once; the others find out by themselves.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Volumes = NDArray[np.float32]
Network = Callable[[Volumes], Volumes]
Preprocessing = Callable[[Path], Volumes]
