"""Answers of tiny random networks are compared here, which bfloat16 would change by more than a wrong row does."""

import os

os.environ.setdefault("PARCELHUB_PRECISION", "float32")
