"""What is seen beside the answers: whether each camera is in order. Imports no torch.

Public: `camera_health.CameraHealth` (one camera, frame by frame), `camera_kinds` (kinds of faults, states, words),
`views.View` (the little of a frame that is looked at), `cusum.Cusum` (decisions over time), `spool.Spool` (the uplink:
store and forward), `observer.Observer` (all cameras of a server, beside the answers).
"""
