"""Networks of one's own for tests of backends: a residual one with dropout, and one with two answers."""

from __future__ import annotations

import torch
from torch import nn

from toolkit.models import ModelSpec


class Residual(nn.Module):
    """A stem, a block called twice whose input is added to its output, dropout and a dense layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(3, 1, 1)
        )
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.block(x)
        x = x + self.block(x)
        return self.head(self.drop(x.mean((2, 3))))


class TwoHeaded(nn.Module):
    """Answers with classes, and with three numbers beside them."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, 6, 5, stride=2), nn.Sigmoid(), nn.Flatten())
        self.head, self.beside = nn.Linear(6 * 4 * 4, classes), nn.Linear(6 * 4 * 4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.features(x)
        return self.head(x), self.beside(x)


MODELS = (
    ModelSpec(name="residual", family="own", input_shape=(3, 10, 9), build=Residual, classes=5),
    ModelSpec(name="two-headed", family="own", input_shape=(1, 12, 12), build=TwoHeaded, classes=7),
)
