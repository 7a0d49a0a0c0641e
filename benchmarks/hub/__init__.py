"""Benchmarks of the hub itself: a registry of ten thousand models, kills under load, many clients, large files."""
