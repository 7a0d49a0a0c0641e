"""For all tests: hypothesis looks for wrong answers, not for slow machines."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Speed belongs to the benchmarks; a deadline here fails when a neighbour is busy.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
