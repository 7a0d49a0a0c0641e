"""How much a dataset may hold before it is refused: a file from outside decides nothing about our memory.

Images have their limits in `serving.inference.preprocess`.
"""

MAX_JSON_BYTES = 8 * 2**30
MAX_XML_BYTES = 8 * 2**30
MAX_TEXT_BYTES = 64 * 2**20
"""A label file, a list of classes, a CSV; also the largest single record of a JSON file, in characters."""
MAX_VERTICES = 100_000
"""Of one polygon."""
MAX_INSTANCES = 10_000
"""Of one image."""
MAX_ATTRIBUTES = 64
"""Of one instance."""
MAX_ATTRIBUTE_LENGTH = 1_000
