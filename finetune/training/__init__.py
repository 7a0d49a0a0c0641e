"""Training on the `transformers` Trainer: one loop for bases and for LoRA variants.

`examples` (what the model takes), `augment` (pictures made anew), `loop` (the Trainer with a budget, averaged
weights and a guard against divergence), `base` (from scratch on scenes), `lora` (a cell's variant).
"""
