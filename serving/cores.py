"""How the threads of our processes use the cores, whether they serve, train or measure. Imports nothing: it has to be
said before numpy and torch are imported, whose threads read it once."""

from __future__ import annotations

import os

CORES = {"GOMP_SPINCOUNT": "5000", "OPENBLAS_NUM_THREADS": "1"}
"""torch's threads wait for each other awake, but not for long: asleep (OMP_WAIT_POLICY=PASSIVE) a picture took 46 ms on
two cores for 28, and awake for ever they keep whatever else there is from running. numpy only multiplies small matrices
here; its threads spin for long after each, and with them a picture took 95 ms for 47.
"""


def share_cores() -> None:
    """Say it for this process and for those that it starts; what the environment says already stays."""
    for name, value in CORES.items():
        os.environ.setdefault(name, value)
