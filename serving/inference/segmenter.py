"""The one inference path: images in, `Instances` out. Evaluation and the Triton backend both run this class."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from serving.errors import BaseError, NotFinite, UnknownVariant
from serving.families.load import family_of, load_model
from serving.families.types import InstanceModel, Prediction
from serving.inference.adapter_files import Adapter, LayerShape, read_adapter
from serving.inference.adapters import AdapterBank
from serving.inference.engines import make_runner
from serving.inference.picture_sizes import PictureSizes
from serving.inference.postprocess import NO_PARTS, Choice, Row, postprocess_each
from serving.inference.preprocess import Image, Preprocess, check_pixels
from serving.inference.runners import EAGER, EagerRunner, EngineChoice, Runner
from serving.inference.score_calibration import EVEN, answered, checked, network_floor
from serving.instances import Instances

log = logging.getLogger(__name__)

RESERVED = "reserved_"
"""Prefix of spare labels: the base itself never answers them, a variant may give them to a class of its own."""

BASE_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """How one image is to be answered: by which variant (None is the base itself) and from which score on.

    `classes` are the labels that the base may answer, for a cell that says what there is in it: what it takes for one
    of its other labels comes as the likeliest of these. All where it is empty, and where the base has none of them. A
    variant answers its own classes.
    """

    variant: str | None = None
    min_score: float = 0.05
    classes: tuple[str, ...] = ()


class Segmenter:
    """A base model with its variants. Thread-safe: batches run one at a time, variants may be added meanwhile."""

    def __init__(
        self,
        model: InstanceModel,
        preprocess: Preprocess,
        *,
        base_name: str,
        labels: Mapping[int, str],
        bank: AdapterBank | None,
        choice: Choice | None = None,
        runner: Runner | None = None,
    ) -> None:
        """Use `load` or `from_model`. `labels` are what the base answers, reserved ones left out. Raises BaseError for
        a `score_pivot` in its config that is none."""
        self.base_name = base_name
        self.preprocess = preprocess
        self.choice = choice or Choice(duplicate_iou=model.duplicate_iou, part_share=model.part_share)
        self._model = model
        self._labels = dict(labels)
        self._bank = bank
        self._lock = threading.Lock()
        self._runner = runner or EagerRunner(model)
        # Captured and exported graphs have one size.
        self._any_size = self._runner if isinstance(self._runner, EagerRunner) else EagerRunner(model)
        self._sizes = PictureSizes(preprocess.size, others=model.any_size)
        self._warm = {preprocess.size}
        self._id_of = {name: i for i, name in model.labels.items()}
        try:
            self._pivot = checked(getattr(model.config, "score_pivot", EVEN))
        except ValueError as error:
            raise BaseError(f"config.json: {error}") from error

    @classmethod
    def load(
        cls,
        base_dir: Path,
        *,
        base_name: str = "universal@v1",
        device: str | torch.device | None = None,
        engine: EngineChoice = EAGER,
        slots: int = 33,
        max_rank: int = 16,
        hot: int = 256,
        choice: Choice | None = None,
    ) -> Self:
        """Load a base folder (config.json, model.safetensors, preprocessor_config.json).

        Args:
            base_name: `<repo name>@<revision>`; a variant must have been trained on exactly this one.
            device: defaults to the GPU where there is one.
            engine: what runs the forward pass, and in which precision; eager and float32 unless said.
            slots: how many variants one batch can mix, plus one for the base.
            max_rank: the largest adapter rank that is accepted; it sizes the slots.
            hot: how many variants are kept in memory, ready to enter a slot.

        Raises: BaseError.
        """
        for file in BASE_FILES:
            if not (base_dir / file).is_file():
                raise BaseError(f"the base folder '{base_dir.name}' has no {file}")
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            config = json.loads((base_dir / "preprocessor_config.json").read_text())
            # An exported graph is made from float32, whatever it then computes in.
            exported = engine.engine in ("onnxruntime", "openvino")
            dtype = torch.float32 if exported else engine.dtype(target, family_of(base_dir))
            model = load_model(base_dir, dtype=dtype)
        except (OSError, ValueError, BaseError) as error:
            raise BaseError(f"the base folder '{base_dir.name}' cannot be loaded: {error}") from error
        model.to(target).requires_grad_(False).eval()
        preprocess = Preprocess.from_config(config)
        bank = AdapterBank(model, slots=slots, max_rank=max_rank, hot=hot)
        runner = make_runner(engine, model, bank, preprocess.size)
        log.info("base %s: engine %s, %s, on %s", base_name, runner.name, runner.precision, target)
        return cls(
            model,
            preprocess,
            base_name=base_name,
            labels=_own_labels(model),
            bank=bank,
            choice=choice,
            runner=runner,
        )

    @classmethod
    def from_model(
        cls,
        model: InstanceModel,
        preprocess_config: Mapping[str, Any],
        *,
        base_name: str = "memory@v0",
        labels: Mapping[str, str] | None = None,
        choice: Choice | None = None,
    ) -> Self:
        """A segmenter around a model in memory, for evaluation while it trains. The model is not changed.

        `labels` maps base labels to the classes to answer, as variant.json does; by default the base's own names. It
        takes no variants: a PEFT model is evaluated with its adapter inside (`peft_model.get_base_model()`). Raises
        BaseError for labels that the model does not have.
        """
        names = _own_labels(model)
        if labels is not None:
            ids = {name: i for i, name in model.labels.items()}
            unknown = sorted(set(labels) - set(ids))
            if unknown:
                raise BaseError(f"the model has no label {', '.join(map(repr, unknown))}")
            names = {ids[base]: mine for base, mine in labels.items()}
        preprocess = Preprocess.from_config(preprocess_config)
        return cls(model, preprocess, base_name=base_name, labels=names, bank=None, choice=choice)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return next(self._model.parameters()).device

    @property
    def engine(self) -> str:
        """What runs the forward pass and in which precision, for people: `eager bfloat16`."""
        return f"{self._runner.name} {self._runner.precision}"

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants that can be asked for right now."""
        return self._bank.names if self._bank is not None else ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that the base itself answers."""
        return tuple(self._labels.values())

    @property
    def tuned_layers(self) -> dict[str, LayerShape]:
        """Shape of every layer that a fine-tune adapts, by the base model's own names."""
        return self._need_bank().tuned

    @property
    def swaps(self) -> int:
        """How often an adapter was copied into a slot."""
        return self._bank.swaps if self._bank is not None else 0

    def has_variant(self, name: str) -> bool:
        """Whether `name` can be asked for right now."""
        return self._bank is not None and self._bank.get(name) is not None

    def read_variant(self, name: str, folder: Path, digests: Mapping[str, str] | None = None) -> Adapter:
        """Read and check a variant against this base without installing it. Raises AdapterError.

        `digests` maps file names to SHA-256. Runs beside inference; call it from any thread.
        """
        bank = self._need_bank()
        return read_adapter(
            name,
            folder,
            base_name=self.base_name,
            base_labels=frozenset(self._id_of),
            layers=bank.layers,
            max_rank=bank.max_rank,
            sizes=self._sizes,
            digests=digests,
        )

    def add_variant(self, name: str, folder: Path, digests: Mapping[str, str] | None = None) -> None:
        """Read, check and install a variant folder; batches from now on may ask for it. Raises AdapterError."""
        adapter = self.read_variant(name, folder, digests)
        self._need_bank().install(adapter)
        self._warm_up_at(adapter.size or self.preprocess.size)

    def remove_variant(self, name: str) -> None:
        """Forget a variant; a batch that is running on it finishes."""
        self._need_bank().remove(name)

    def segment(
        self,
        images: Sequence[Image],
        variants: Sequence[str | None] | None = None,
        min_score: float | None = None,
        classes: Sequence[str] = (),
    ) -> list[Instances]:
        """Segment uint8 [H, W, 3] RGB images of any sizes, each with its own variant: in one forward pass where all are
        looked at in the same size, else in one for each size.

        `variants[i]` names the variant for image i, None the base; `min_score` defaults to `choice.min_score`;
        `classes` as of `SegmentOptions`.
        Raises ImageError, UnknownVariant (before anything runs), NoFreeSlot, and NotFinite where the answer to
        an image is not finite numbers.
        """
        floor = self.choice.min_score if min_score is None else min_score
        chosen = variants if variants is not None else [None] * len(images)
        answers = self.answer(images, [SegmentOptions(variant, floor, tuple(classes)) for variant in chosen])
        found = []
        for one in answers:
            if isinstance(one, NotFinite):
                raise one
            found.append(one)
        return found

    def answer(self, images: Sequence[Image], orders: Sequence[SegmentOptions]) -> list[Instances | NotFinite]:
        """`segment` with a score floor per image, and the error of an image in its own place; what the Triton backend
        calls. Raises ValueError unless there is an order for each image.
        """
        if len(images) != len(orders):
            raise ValueError(f"{len(images)} images but {len(orders)} orders")
        if not images:
            return []
        # Everything that can be refused is, before anything runs.
        checked_images = [check_pixels(image) for image in images]
        names = [self._names(order) for order in orders]
        groups: dict[int, list[int]] = {}
        for row, order in enumerate(orders):
            groups.setdefault(self.size(order.variant), []).append(row)
        answers: dict[int, Instances | NotFinite] = {}
        for size, rows in groups.items():
            found = self._answer_at(
                size, [checked_images[row] for row in rows], [orders[row] for row in rows], [names[row] for row in rows]
            )
            answers |= zip(rows, found, strict=True)
        return [answers[row] for row in range(len(orders))]

    def _answer_at(
        self, size: int, images: Sequence[Image], orders: Sequence[SegmentOptions], names: Sequence[dict[int, str]]
    ) -> list[Instances | NotFinite]:
        """Answer images that are all looked at in one size."""
        pivots = [self.pivot(order.variant) for order in orders]
        with torch.inference_mode():
            pixels, boxes = self.preprocess.at(size).batch(images, device=self.device)
            said = self._forward(pixels, [order.variant for order in orders])
            floors = [network_floor(o.min_score, pivot) for o, pivot in zip(orders, pivots, strict=True)]
            rows = [
                Row(box, name, replace(self.choice, min_score=least, part_share=self._part_share(order.variant)))
                for box, name, least, order in zip(boxes, names, floors, orders, strict=True)
            ]
            found = postprocess_each(said.masks, said.scores, rows)
        return [
            one.of(order.variant) if isinstance(one, NotFinite) else one.rescored(answered(one.scores, pivot))
            for one, pivot, order in zip(found, pivots, orders, strict=True)
        ]

    def predict(self, images: Sequence[Image], variants: Sequence[str | None]) -> Prediction:
        """What the network says before anything is chosen, for checks against other implementations.

        Raises ValueError for variants of several sizes.
        """
        sizes = {self.size(variant) for variant in variants} or {self.preprocess.size}
        if len(sizes) > 1:
            raise ValueError(f"one forward pass has pictures of one size, not {', '.join(map(str, sorted(sizes)))}")
        with torch.inference_mode():
            pixels, _ = self.preprocess.at(sizes.pop()).batch(images, device=self.device)
            return self._forward(pixels, variants)

    def forward(self, pixels: torch.Tensor, variants: Sequence[str | None]) -> Prediction:
        """The forward pass alone, of normalised pictures float32 [B, 3, S, S]; what benchmarks time."""
        with torch.inference_mode():
            return self._forward(pixels, variants)

    def warm_up(self, batch_sizes: Sequence[int] = (1, 2)) -> None:
        """Run blank images once, so that the first robot does not pay for lazy initialisation."""
        if self._bank is not None:
            self._bank.take_memory()
        self._runner.warm_up()
        blank = torch.zeros(self.preprocess.size, self.preprocess.size, 3, dtype=torch.uint8).numpy()
        for size in batch_sizes:
            self.segment([blank] * size)

    def _warm_up_at(self, size: int) -> None:
        """Run a blank picture of a size that nothing was run in yet: the cell's first robot must not pay for it."""
        if size not in self._warm:
            self._warm.add(size)
            self.forward(torch.zeros(1, 3, size, size, device=self.device), [None])

    def _forward(self, pixels: torch.Tensor, variants: Sequence[str | None]) -> Prediction:
        with self._lock, _evaluating(self._model):
            rows = self._bank.rows(variants) if self._bank is not None else nullcontext()
            with rows as pinned:
                own = pixels.shape[-1] == self.preprocess.size
                return (self._runner if own else self._any_size).run(pixels, pinned)

    def _names(self, order: SegmentOptions) -> dict[int, str]:
        """Label id -> what to call it, for every label that may be answered."""
        if order.variant is None:
            wanted = {i: name for i, name in self._labels.items() if name in order.classes}
            return wanted or self._labels
        adapter = self._bank.get(order.variant) if self._bank is not None else None
        if adapter is None:
            raise UnknownVariant(order.variant)
        return {self._id_of[base]: name for base, name in adapter.labels.items()}

    def pivot(self, variant: str | None) -> float:
        """The network's score that is answered as a half for a variant, or for the base (None)."""
        adapter = self._bank.get(variant) if self._bank is not None and variant is not None else None
        return adapter.pivot if adapter is not None else self._pivot

    def size(self, variant: str | None) -> int:
        """Pixels a side that the pictures of a variant, or of the base (None), are looked at in."""
        adapter = self._bank.get(variant) if self._bank is not None and variant is not None else None
        return adapter.size if adapter is not None and adapter.size is not None else self.preprocess.size

    def _part_share(self, variant: str | None) -> float:
        """The choice's `part_share` for the base, and for the variants whose labels do not lie in one another."""
        if variant is None:
            return self.choice.part_share
        adapter = self._bank.get(variant) if self._bank is not None else None
        return self.choice.part_share if adapter is not None and adapter.disjoint else NO_PARTS

    def _need_bank(self) -> AdapterBank:
        if self._bank is None:
            raise BaseError("a segmenter made with from_model takes no variants; use Segmenter.load")
        return self._bank


def _own_labels(model: InstanceModel) -> dict[int, str]:
    return {i: name for i, name in model.labels.items() if not name.startswith(RESERVED)}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
