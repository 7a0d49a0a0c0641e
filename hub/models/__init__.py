"""Bases, cells and variants: their rows, files, class maps, evaluations, lineage and signed statements.

`bases.Bases`, `cells.Cells` and `variants.Variants` are the three; `finetunes.Finetunes` publishes what a job made.
"""
