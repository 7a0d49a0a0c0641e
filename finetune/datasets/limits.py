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


def decimal(text: str) -> int | None:
    """The number that up to nine decimal digits are; None for any other text.

    `isdecimal` alone is not enough: Python refuses to read thousands of digits, with an error that nobody expects.
    """
    text = text.strip()
    return int(text) if len(text) <= 9 and text.isdecimal() else None
