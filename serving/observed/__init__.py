"""What a server observes beside its answers: cameras, new packages, doubt, failed picks. Imports no torch.

- Cameras: `observer.Observer` (all of a server), `camera_health.CameraHealth` (one), `camera_kinds` (faults, states).
- New packages: `novelty_watch` (all cells of a server), `novelty` (scores), `change` (change points), `ring` and
  `sampling` (which frames are kept).
- Failed picks: `failures.judge`, over `second_looks`.
- What is kept and sent: `captures`, `telemetry`, `uplink` (the one way to the hub).
"""
