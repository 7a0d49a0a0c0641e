"""Measures all four floors; not in the wheel."""
