"""The labelling tools that teams have: pictures of a queue go there as tasks, and come back as labels.

It runs where the command runs. The hub calls no tool, and no token of a tool gets to the hub.

Public: `handing.push` and `handing.pull`; `tool.Tool` is what a tool has to do.
"""
