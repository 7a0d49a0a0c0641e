"""The cell with captures that labelling is tried with."""

from tests.hub.loop.conftest import ready

__all__ = ["ready"]
