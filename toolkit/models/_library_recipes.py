"""Recipes of networks from other packages, whatever the network: from the start, and from published weights.

Read for them: torchvision's references (references/classification: SGD 0.1 with momentum 0.9, batch 256,
weight decay 1e-4, 90 epochs for residual networks; label smoothing 0.1, warm-up and a cosine in its later
ones), its transfer learning tutorial (SGD 0.001, momentum 0.9, 25 epochs on 244 pictures), and timm's
training scripts (AdamW with weight decay 0.05, warm-up and a cosine, label smoothing 0.1; a tenth of the
rate or less where weights are there already). Those are for a million pictures and weeks of GPUs. These
keep their kind and are for some thousands of pictures: one rate that rises and falls once in place of
warm-up and cosine.
"""

from __future__ import annotations

import dataclasses

from toolkit.recipes import Recipe

_DEFAULT = Recipe(
    name="default",
    epochs=30,
    batch=128,
    optimizer="adamw",
    lr=2e-3,
    weight_decay=0.05,
    schedule="one-cycle",
    label_smoothing=0.1,
    clip_norm=1.0,
    flip=True,
    pixels="published",
    source="torchvision's references/classification; timm's training scripts",
)
_FINETUNE = dataclasses.replace(_DEFAULT, name="finetune", epochs=8, batch=64, lr=3e-4)

RECIPES = {recipe.name: recipe for recipe in (_DEFAULT, _FINETUNE)}
