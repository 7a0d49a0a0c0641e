"""Model cards: what a variant or a base is, how it was made and how good it is, for people."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.contract import FinetuneRequest
from finetune.datasets.deck import Deck
from finetune.evaluation.evaluate import Evaluation, Judgement
from finetune.evaluation.weight_interpolation import LEAST_IMAGES
from finetune.report.card_lineage import TrainingStep, earlier_steps, lineage_table, written_sources
from finetune.scenes.generator import VERSION as SCENES_VERSION
from finetune.training.adapt import AdaptRecipe
from finetune.training.base import BaseRecipe
from finetune.training.fit import processes
from finetune.training.foundation import PACKAGES
from finetune.training.scene_examples import Backgrounds, WrittenScenes
from registry.promotion.readiness import judge_metrics
from serving.inference.segmenter import RESERVED

_LICENSE = re.compile(r"^license: *(\S[^\n]*)$", re.MULTILINE)  # in a card's front matter


def variant_card(
    request: FinetuneRequest,
    recipe: AdaptRecipe,
    deck: Deck,
    base: Evaluation,
    variant: Evaluation,
    metrics: Mapping[str, Any],
) -> str:
    """The README.md of a variant's repo: front matter that hubs read, then a page in plain words."""
    repo, _, revision = request.base_ref.partition("@")
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in sorted(variant.per_class.items()))
    change = f"AP50 {base.ap50:.2f} → {variant.ap50:.2f} on pictures that it was not trained on"
    judged = judge_metrics(metrics)
    verdict = f"{change}."
    if judged is not None:
        verdict = f"**{judged.verdict.capitalize()}.** {judged.reason} Next: {judged.next_step}\n\n{change}."
    merged = "".join(
        f"\n`{name}` stands for {', '.join(f'`{one}`' for one in several)}: one class, judged as one.\n"
        for name, several in sorted(deck.merges.items())
    )
    warnings = "\n".join(f"- {line}" for line in metrics.get("warnings", ())) or "- none"
    tried = "0, 25, 50, 75 and 100 %" if metrics["images_holdout"] >= LEAST_IMAGES else "nothing and all"
    mild = ""
    if recipe.rehearsal:
        mild = (
            f" The base knew the train images well (mean AP {metrics['base_known']:.2f}), so the rate is lower than in "
            f"a new cell, and {recipe.rehearsal:.0%} of the pictures were scenes as the base learnt them."
        )
    return f"""---
base_model: {repo}
library_name: peft
pipeline_tag: image-segmentation
tags: [parcelhub, lora, instance-segmentation]
---

# Variant of cell `{request.cell}`

{verdict}

| on {metrics["images_holdout"]} held-out images | base | variant |
|---|---|---|
| mask AP | {base.ap:.3f} | {variant.ap:.3f} |
| mask AP50 | {base.ap50:.3f} | {variant.ap50:.3f} |
| mask AP75 | {base.ap75:.3f} | {variant.ap75:.3f} |
| class-agnostic mask AP50 | {base.agnostic_ap50:.3f} | {variant.agnostic_ap50:.3f} |

| class | AP |
|---|---|
{rows}
{merged}
## How it was made

LoRA of rank {recipe.rank} on `{request.base_ref}` (commit `{request.base_commit}`), trained on
{metrics["images_train"]} images of `{request.dataset_ref}` for {metrics["train_seconds"]:.0f} s
({metrics["steps"]} steps of
{recipe.batch_size} pictures of {metrics["image_size"]} pixels a side, learning rate {recipe.learning_rate}, seed
{request.seed}).{mild} It keeps
{metrics["kept_share"]:.0%} of what it learnt: of {tried} that did best on the held-out images. Deck
`{deck.digest}`; base {revision}.

What the dataset check noted:

{warnings}
"""


def base_card(
    recipe: BaseRecipe, labels: Sequence[str], judgements: Sequence[Judgement], *, steps: int, seconds: float
) -> str:
    """The README.md of a base: how it was made, what it saw, and how good it is where it was judged. `steps` and
    `seconds` are what its training took."""
    a = recipe.architecture
    known = ", ".join(f"`{label}`" for label in labels if not label.startswith(RESERVED))
    spare = sum(label.startswith(RESERVED) for label in labels)
    labelled = (
        f"Instance segmentation of packages: {known}; {spare} spare labels that variants may take for other classes."
    )
    batch = recipe.batch_size * recipe.accumulate * processes()
    foundation = recipe.foundation or (None if a.encoder == "stem" else a.encoder)
    if recipe.start:
        begin = "weights of another base"
    elif foundation:
        begin = "random weights but for its encoder"
    else:
        begin = "random weights: no pre-trained weights of anyone are in it"
    rows = "\n".join(
        f"| {name} | {e.images} | {e.ap:.3f} | {e.ap50:.3f} | {e.ap75:.3f} | {e.agnostic_ap50:.3f} |"
        for name, e in ((j.name, j.evaluation) for j in judgements)
    )
    return f"""---
library_name: transformers
pipeline_tag: image-segmentation
license: apache-2.0
tags: [parcelhub, base, instance-segmentation, {a.family}]
parcelhub:
  scenes: {{generator: {SCENES_VERSION}, seed: {recipe.seed}, count: {steps * batch}}}{_start(recipe)}
---

# A universal package-segmentation base

{_wrapped(labelled)}

Family `{a.family}`, {a.layers} layers of width {a.hidden_size}, patches of {a.patch_size} pixels, pictures of
{a.image_size} pixels, {a.queries} answers at most. It started from {begin}.
{_founded(foundation)}
## What it saw

{steps * batch:,} scenes of the project's own generator (version {SCENES_VERSION}, seed {recipe.seed}) in
{seconds / 60:.0f} minutes and nothing else, {_pasted(recipe)}. Rates fall over the second half of a training;
Muon takes the encoder's matrices, AdamW the rest; weights are averaged. All of its line, the newest first:

{lineage_table([_step(recipe, steps, batch, seconds), *earlier_steps(recipe.start)])}

`pictures` are steps x pictures of each. `written before` is the share of scenes that lay on disk, and where from.
`views` are the shares of scenes seen from close by, without colour, and, where it says so, with photographs pasted in.

## How good it is, zero-shot

Mask AP by COCO's rules, on pictures that training never drew from; in the last column all labels count as one (finding
without naming):

| judged on | images | AP | AP50 | AP75 | class-agnostic AP50 |
|---|---|---|---|---|---|
{rows}

Scenes are not photographs: expect much lower figures on a real cell before fine-tuning, as the table shows where a real
dataset is among the judges. Use it as the start of a variant, not as a finished model.
"""


def _wrapped(text: str) -> str:
    """A paragraph in lines of at most 120 characters."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _founded(foundation: str | None) -> str:
    """What an encoder had learnt before, from whom its weights are and under which licence."""
    if foundation is None:
        return ""
    package = PACKAGES[foundation][0].replace("_", "-")
    return f"""
Its encoder is `{foundation}`, which had learnt from ImageNet's photographs before: weights of the Python package
`{package}` (Apache-2.0), batch norms folded into the convolutions.
"""


def _start(recipe: BaseRecipe) -> str:
    """The line of a card's metadata that says which weights a base went on from: hubs know bases by that digest."""
    weights = recipe.start / "model.safetensors" if recipe.start else None
    if weights is None or not weights.is_file():
        return ""
    with weights.open("rb") as file:
        return f"\n  start: {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _pasted(recipe: BaseRecipe) -> str:
    """What photographs were pasted into scenes, and which came beside them."""
    share, parts = _pasted_share(recipe), []
    if share:
        parts.append(f"{_percent(share)} of them photographs of boxes, cut out and pasted before a background of ours")
    if recipe.backgrounds is not None:
        count = len(Backgrounds(recipe.backgrounds, side=recipe.architecture.image_size))
        parts.append(
            f"{_percent(recipe.background_share)} photographs without any package ({count} of them, each altered anew)"
        )
    if recipe.photographs:
        sources = ", ".join(_photograph_source(folder, recipe.architecture.image_size) for folder in recipe.photographs)
        parts.append(f"{_percent(recipe.photograph_share)} labelled photographs, each altered anew: {sources}")
    return "; ".join(parts) or "no photograph among them"


def _photograph_source(folder: Path, side: int) -> str:
    """A set of photographs, their number and their licence, as the set's own card states it."""
    card = folder / "README.md"
    stated = _LICENSE.search(card.read_text(encoding="utf-8")) if card.is_file() else None
    return (
        f"`{folder.name}` ({len(WrittenScenes([folder], side=side))}, {stated[1] if stated else 'licence not stated'})"
    )


def _pasted_share(recipe: BaseRecipe) -> float:
    """The share of all scenes of a training that have photographs pasted in: of those that it made, what is no
    close-up; none of those that lay on disk."""
    if recipe.assets is None:
        return 0.0
    made = 1 - recipe.written_share if recipe.written else 1.0
    return recipe.pasted * (1 - recipe.close_ups) * made


def _percent(share: float) -> str:
    """A share above 0 in words that are not 0 %."""
    return f"{share:.0%}" if share >= 0.005 else "less than 1%"


def _step(recipe: BaseRecipe, steps: int, batch: int, seconds: float) -> TrainingStep:
    """The row of this training."""
    written, pasted = [], _pasted_share(recipe)
    for folder in recipe.written:
        card = folder / "README.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        written.append((folder.name, len(WrittenScenes([folder], side=recipe.architecture.image_size)), text))
    return TrainingStep(
        scenes=f"{steps * batch:,}",
        generator=str(SCENES_VERSION),
        seed=str(recipe.seed),
        minutes=f"{seconds / 60:.0f}",
        pictures=f"{steps:,} x {batch}",
        written=written_sources(recipe.written_share, written),
        environments=", ".join(recipe.look.environments),
        views=f"close {recipe.close_ups:.0%}, grey {recipe.greys:.0%}"
        + (f", pasted {_percent(pasted)}" if pasted else "")
        + (f", photographed backgrounds {_percent(recipe.background_share)}" if recipe.backgrounds else "")
        + (f", photographs {_percent(recipe.photograph_share)}" if recipe.photographs else ""),
        rates=f"Muon {recipe.muon_rate}, AdamW {recipe.learning_rate}",
    )
