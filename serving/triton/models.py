"""The bases that a server holds: the one that cells without a variant get, and those that variants are on beside it."""

from __future__ import annotations

from serving.folder.digests import check_base
from serving.folder.routing import RoutingTable, ServingFolder
from serving.inference.runners import EngineChoice
from serving.inference.segmenter import Segmenter
from serving.triton.state import State


def load_bases(
    folder: ServingFolder, table: RoutingTable, before: State | None, *, hot: int, choice: EngineChoice
) -> dict[str, Segmenter]:
    """A segmenter for each base of the table, by its name. What is loaded already stays, with its variants.

    Raises BaseError for one that cannot be loaded.
    """
    loaded = {each.base_name: each for each in before.segmenters} if before is not None else {}
    found: dict[str, Segmenter] = {}
    for name in table.all_bases():
        segmenter = loaded.get(name)
        if segmenter is None:
            place = folder.base_folder(name)
            check_base(place, table.digests_of(f"base/{name}"))
            segmenter = Segmenter.load(place, base_name=name, hot=hot, engine=choice)
            segmenter.warm_up()
        found[name] = segmenter
    return found
