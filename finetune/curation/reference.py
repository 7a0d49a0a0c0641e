"""The reference of a cell, from the pictures of its deck: what its packages and its background look like to the base.

The masks are the team's own where it drew them: what is known is what was labelled, whatever a model says of it. The
network's certainty, which one of the scores asks for, is taken as that of a good answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from serving.inference.embeddings import Embedder
from serving.inference.preprocess import Image
from serving.instances import Instances
from serving.observed.appearance import WIDTH
from serving.observed.novelty_reference import FALSE_ALARMS, FILE, Reference, Seen, seen_of

LABELLED_SCORE: Final = 0.9
MAX_PICTURES: Final = 150
"""Of a larger deck so many pictures, evenly spread: a picture takes some 0.1 s."""


def build_reference(
    embedder: Embedder,
    pictures: Iterable[tuple[Image, Instances]],
    folder: Path,
    *,
    deck: str,
    false_alarms: float = FALSE_ALARMS,
) -> Reference | None:
    """Learn a reference from labelled pictures and write it into a variant's folder; None where there is too little."""
    seen = []
    for image, labelled in pictures:
        one = seen_of(embedder.embed(image, labelled), image, labelled)
        scores = np.full(len(labelled), LABELLED_SCORE, np.float32)
        seen.append(Seen(one.instances, scores, one.patches, one.covered, one.grid))
    try:
        reference = Reference.learn(
            seen, base=embedder.base_name, layers=embedder.layers, false_alarms=false_alarms, deck=deck, tail=WIDTH
        )
    except ValueError:
        return None
    reference.save(folder / FILE)
    return reference
