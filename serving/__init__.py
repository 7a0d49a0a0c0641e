"""Runs models: one inference path, one Triton model for every variant, and what robots talk to.

`segmenter.Segmenter` is the inference path (images in, `instances.Instances` out); `adapters` keeps many LoRA
variants beside one base; `routing` reads and writes the serving folder; `triton` holds the launcher, the model
repository and the backend; `client.RobotClient` is the robot's side. `instances`, `errors`, `routing`, `client` and
`triton.launcher` import no torch, so the hub's process stays light.
"""
