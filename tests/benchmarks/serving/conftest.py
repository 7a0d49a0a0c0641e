"""The base and the variants of the server's own tests."""

from tests.serving.conftest import base_dir, segmenter, variant_dirs

__all__ = ["base_dir", "segmenter", "variant_dirs"]
