"""What training needs of a family of networks, in one entry each, beside what serving needs (`serving.families.load`).

A family that has no entry here can be served and seeded, and fine-tuned with the library's own loss; it cannot be made
from scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serving import extensions

if TYPE_CHECKING:
    from serving.families.types import InstanceModel

LORA_RATE = 3e-3
"""AdamW's rate for adapters of the families that adapt their transformer."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Family and size of a base made from scratch. `image_size` and `patch_size` are pixels; masks come at a quarter of
    the size. `blocks` are the query blocks of EoMT and the decoder layers of the others that have a decoder;
    `encoder` is what a ParcelSeg sees with (`ParcelSegConfig`).
    """

    family: str = "parcelseg"
    encoder: str = "stem"
    image_size: int = 256
    patch_size: int = 16
    hidden_size: int = 192
    layers: int = 8
    heads: int = 6
    blocks: int = 3
    queries: int = 100
    spare_labels: int = 10


@dataclass(frozen=True, slots=True)
class TrainedFamily:
    """How a family is trained.

    Attributes:
        config: the `transformers` configuration of an architecture, without labels.
        learner: wraps a model with its loss, as `finetune.training.learner.Learner` does (model, whether it begins
            with random weights); None: the loss of the library's own class.
        lora_rate: AdamW's rate for its adapters.
    """

    config: Callable[[Architecture], Any]
    learner: Callable[[InstanceModel, bool], Any] | None = None
    lora_rate: float = LORA_RATE


_register: dict[str, TrainedFamily] = {}


def register_training(name: str, family: TrainedFamily) -> None:
    """Make known how a family is trained. Raises ValueError if it is known already."""
    if _register.setdefault(name, family) is not family:
        raise ValueError(f"there are two ways to train the family {name!r}")


def training_of(name: str) -> TrainedFamily | None:
    """How a family is trained; None for one without an entry. Raises ExtensionError."""
    extensions.load()
    return _register.get(name)


class Configs(Mapping[str, Callable[[Architecture], Any]]):
    """The families that can be made from scratch, and how. Raises ExtensionError."""

    def __getitem__(self, name: str) -> Callable[[Architecture], Any]:
        extensions.load()
        return _register[name].config

    def __iter__(self) -> Iterator[str]:
        extensions.load()
        return iter(_register)

    def __len__(self) -> int:
        extensions.load()
        return len(_register)
