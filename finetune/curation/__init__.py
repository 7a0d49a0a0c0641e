"""What is worth learning from: references of what is known, and clusters of what is new.

Public: `reference.build_reference` (of a deck, for `serving.observed.novelty`), `clusters.hdbscan`.
"""
