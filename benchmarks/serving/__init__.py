"""Measures the server as robots see it: `folder` makes a serving folder with many variants, `load` asks without
hiding waits (no coordinated omission), `scenarios` runs each measurement against a real Triton server.
"""
