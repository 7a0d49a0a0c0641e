"""Bases as files: `model` reads, makes and writes them, `seed` takes weights over from a public model."""
