"""Model cards: what a variant or a base is, how it was made and how good it is, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.contract import FinetuneRequest
from finetune.deck import Deck
from finetune.evaluate import Evaluation
from finetune.training.adapt import AdaptRecipe


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
    gain = variant.ap50 - base.ap50
    change = f"(AP50 {base.ap50:.2f} → {variant.ap50:.2f})"
    verdict = (
        f"On pictures it was not trained on, this variant finds packages better than the shared base {change}."
        if gain > 0.01
        else f"On pictures it was not trained on, this variant is **not** better than the shared base {change}. "
        "More, or more varied, images usually help."
    )
    warnings = "\n".join(f"- {line}" for line in metrics.get("warnings", ())) or "- none"
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

| class | AP |
|---|---|
{rows}

## How it was made

LoRA of rank {recipe.rank} on every linear layer of `{request.base_ref}` (commit `{request.base_commit}`), trained on
{metrics["images_train"]} images of `{request.dataset_ref}` for {metrics["train_seconds"]:.0f} s
({metrics["steps"]} steps of
{recipe.batch_size} pictures, learning rate {recipe.learning_rate}, seed {request.seed}). Deck `{deck.digest}`;
base {revision}.

What the dataset check noted:

{warnings}
"""
