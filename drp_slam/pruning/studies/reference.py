# SPDX-License-Identifier: Apache-2.0
"""Small reference networks with known weights or data."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drp_slam.errors import PruningError

CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1 or self.extra:
            half = self.extra // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """ResNet-(6 depth + 2) for CIFAR-10 of He et al. 2015, section 4.2."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, depth, 1)
        self.layer2 = self._stage(16, 32, depth, 2)
        self.layer3 = self._stage(32, 64, depth, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride)
        return nn.Sequential(first, *[BasicBlock(outputs, outputs, 1) for _ in range(depth - 1)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32), normalised -> logits (N, 10)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def resnet20(weights: str | Path | None = None) -> CifarResNet:
    """ResNet-20, with a state dict with the usual names (`module.` and `state_dict` are removed).

    Raises PruningError if the file cannot be read or does not fit.
    """
    model = CifarResNet(3)
    if weights is not None:
        load_state(model, weights)
    return model.eval()


def load_state(model: nn.Module, path: str | Path) -> None:
    """Loads a state dict file into the model. Raises PruningError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        model.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    except (OSError, RuntimeError, AttributeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise PruningError(f"{path}: cannot load the weights: {str(error).splitlines()[0]}") from error


def cifar_folder(folder: str | Path) -> tuple[Tensor, Tensor, list[str]]:
    """Images (N, 3, 32, 32) normalised, labels (N,), class names; folder = class, sorted as CIFAR.

    Raises PruningError where there is no image.
    """
    import cv2
    import numpy as np

    classes = sorted(p.name for p in Path(folder).glob("*") if p.is_dir())
    images, labels = [], []
    for label, name in enumerate(classes):
        for file in sorted((Path(folder) / name).glob("*")):
            if (image := cv2.imread(str(file))) is not None:
                images.append(image[:, :, ::-1])
                labels.append(label)
    if not images:
        raise PruningError(f"{folder}: no image in class folders; expected <class>/<image>")
    tensor = torch.from_numpy(np.stack(images).astype(np.float32) / 255.0).permute(0, 3, 1, 2)
    mean, std = torch.tensor(CIFAR_MEAN), torch.tensor(CIFAR_STD)
    tensor = (tensor - mean[:, None, None]) / std[:, None, None]
    return tensor.contiguous(), torch.tensor(labels), classes


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch: int = 250) -> float:
    """Share of correct predictions, in [0, 1]."""
    was = model.training
    model.eval()
    parts = zip(images.split(batch), labels.split(batch))
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in parts)
    model.train(was)
    return right / len(labels)
