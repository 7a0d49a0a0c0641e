"""How much of what it learnt a variant keeps.

Between the base and the trained weights lies what does best on pictures that training has not seen (Wortsman et al.,
"Robust fine-tuning of zero-shot models", arXiv 2109.01903): where the base is good already and the pictures are few,
a part of the way does better than all of it, or even none; where the base is lost, all of it does.

The holdout says how much: one choice among five, which the figures on it flatter a little. Leaving pictures out of the
training to choose by was tried and no better (docs/history/variants.md, "How much is kept").
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from finetune.datasets import Sample
from finetune.evaluation.evaluate import nameless, score
from serving.inference.adapter_files import VARIANT, WEIGHTS
from serving.inference.picture_sizes import KEY as SIZE_KEY
from serving.instances import Instances

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""With none of it a variant answers as the base does: on the holdout never worse than what the cell had."""
LEAST_IMAGES = 8
"""Fewer say little: of a training all is kept or, where the base did better on them, nothing."""
FEW_SHARES = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said of each image: in the classes that are judged, and under whatever label."""

    judged: tuple[Instances, ...]
    said: tuple[Instances, ...]


@dataclass(frozen=True, slots=True)
class Worth:
    """AP of answers, with names and without; both in [0, 1]."""

    ap: float
    agnostic_ap: float

    @property
    def mean(self) -> float:
        """What the choice goes by."""
        return (self.ap + self.agnostic_ap) / 2


def worth(samples: Sequence[Sample], truths: Sequence[Instances], classes: Sequence[str], answers: Answers) -> Worth:
    """What answers are worth. `truths` are the samples' annotations in `classes`."""
    names = [sample.name for sample in samples]
    found = score(truths, answers.judged, classes, names, agnostic=nameless(samples, answers.said))
    return Worth(found.ap, found.agnostic_ap)


def best_share(values: Mapping[float, float]) -> float:
    """The share with the highest value; of several the largest."""
    return max(values, key=lambda share: (values[share], share))


def values_of(looks: Mapping[float, Worth]) -> dict[float, float]:
    """What each share is worth to the choice, less than nothing where it names worse than none of it does: what is
    found better under wrong names would be a step back for who reads the names."""
    return {share: one.mean if one.ap >= looks[0.0].ap else one.mean - 1.0 for share, one in looks.items()}


def best_of(
    samples: Sequence[Sample],
    truths: Sequence[Instances],
    classes: Sequence[str],
    whole: Answers,
    look: Callable[[float], Answers],
) -> tuple[float, Answers]:
    """The share that does best and what it answers. `whole` is what all of it answers, `look` what a share does. Others
    as of `worth`."""
    shares = SHARES if len(samples) >= LEAST_IMAGES else FEW_SHARES
    looks = {share: look(share) for share in shares[:-1]} | {1.0: whole}
    kept = best_share(values_of({share: worth(samples, truths, classes, one) for share, one in looks.items()}))
    return kept, looks[kept]


class Interpolation:
    """The way from where weights were to where training took them."""

    def __init__(self, ends: Sequence[tuple[nn.Parameter, torch.Tensor]]) -> None:
        """Use `from_here` or `of_adapter`. Each weight with where it came from; all of the way is where they are when
        a share is first asked for."""
        self._ends = ends
        self._far: list[torch.Tensor] | None = None

    @classmethod
    def from_here(cls, model: nn.Module) -> Self:
        """Of every weight of a model, before it is trained."""
        return cls([(p, p.detach().clone()) for p in model.parameters()])

    @classmethod
    def of_adapter(cls, model: nn.Module) -> Self:
        """Of a trained adapter: of its two matrices the one that started at zero is walked."""
        ends = [(p, torch.zeros_like(p)) for name, p in model.named_parameters() if ".lora_B." in name]
        return cls(ends)

    @torch.no_grad()
    def go(self, share: float) -> None:
        """Leave the weights at `share` of the way."""
        if self._far is None:
            self._far = [p.detach().clone() for p, _ in self._ends]
        for (parameter, start), far in zip(self._ends, self._far, strict=True):
            parameter.copy_(torch.lerp(start, far, share))


def scale_adapter(folder: Path, share: float) -> None:
    """Leave the adapter in a variant's folder at `share` of its way. With none of it, it answers as the base does: in
    the base's size too."""
    state = load_file(folder / WEIGHTS)
    scaled = {name: tensor * share if ".lora_B." in name else tensor for name, tensor in state.items()}
    save_file(scaled, folder / WEIGHTS, metadata={"format": "pt"})
    if not share and (folder / VARIANT).is_file():
        document = json.loads((folder / VARIANT).read_text(encoding="utf-8"))
        document.pop(SIZE_KEY, None)
        (folder / VARIANT).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def blend_adapter(folder: Path, start: Path, share: float) -> None:
    """Leave the adapter in a variant's folder at `share` of the way from the one in `start` that it went on from.

    Both matrices are walked, since both were where training began; with none of the way it is that one, bit for bit.
    """
    state, began = load_file(folder / WEIGHTS), load_file(start / WEIGHTS)
    if share == 0:
        blended = began
    else:
        blended = {
            name: torch.lerp(began[name].float(), tensor.float(), share).to(tensor.dtype)
            for name, tensor in state.items()
        }
    save_file(blended, folder / WEIGHTS, metadata={"format": "pt"})


def walk_adapter(folder: Path, share: float, start: Path | None = None) -> None:
    """Leave the adapter in a variant's folder at `share` of its way: from the base, or from the adapter in `start`."""
    if start is None:
        scale_adapter(folder, share)
    else:
        blend_adapter(folder, start, share)


@contextmanager
def scaled_copy(folder: Path, share: float, start: Path | None = None) -> Iterator[Path]:
    """A variant's folder beside it whose adapter is at `share` of its way, for a look; `start` as `walk_adapter` has
    it."""
    place = folder.with_name(f"{folder.name}-{share}")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)
    try:
        walk_adapter(place, share, start)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
