"""Runs models: one inference path, one Triton model for every variant, and what robots talk to.

`inference.segmenter.Segmenter` is the inference path (images in, `instances.Instances` out) and keeps many LoRA
variants beside one base; `families` are the networks; `folder` reads and writes the serving folder; `triton` holds the
launcher, the model repository and the backend; `robot.client.RobotClient` is the robot's side; `observed` is what the
server keeps of what it saw. `instances`, `errors`, `folder`, `robot`, `observed` and `triton.launcher` import no torch,
so the hub's process stays light.
"""
