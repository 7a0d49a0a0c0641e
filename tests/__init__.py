"""The tests. What their processes find is said before any of them imports torch or numpy."""

from tests import surroundings as surroundings
