# SPDX-License-Identifier: Apache-2.0
"""The card beside every shipped network: its origin, and the scales of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drp_slam import resources
from drp_slam.errors import ResourceError

HEADS = {"descriptors": (0, 64), "keypoints": (64, 129), "reliability": (129, 130)}
"""Channels [first, last) of XFeat's single output."""
INPUT_MULTIPLE = 32
"""Height and width of the network's input are multiples of this, because the network halves them five times."""


@dataclass(frozen=True)
class Quantisation:
    """`real = scale * (stored - zero_point)`; scale 1 and zero point 0 for float tensors."""

    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True)
class Head:
    """Channels `[first, last)` of the network's single output, with their scale."""

    first: int
    last: int
    quantisation: Quantisation


@dataclass(frozen=True)
class Card:
    """The facts about a network that the stages need. `dtype` is `int8` or `float32`, in and out.

    `heads` has `descriptors` (64 channels), `keypoints` (65 logits: 8 x 8 cell and none) and
    `reliability` (1 logit). `facts` is the whole card as written.
    """

    name: str
    onnx: Path
    dtype: str
    input: Quantisation
    heads: Mapping[str, Head]
    facts: Mapping[str, Any]

    @property
    def channels(self) -> int:
        """Channels of the output tensor."""
        return max(head.last for head in self.heads.values())


def load_card(name: str) -> Card:
    """Card of a shipped network or of an ONNX file with `<file>.yaml` beside it.

    Raises ResourceError where the network or its card is missing or incomplete.
    """
    onnx = resources.network(name)
    path = onnx.with_suffix(".yaml")
    if not path.is_file():
        raise ResourceError(
            f"{onnx} has no card {path.name} beside it; SLAM takes networks of the form of XFeat, described as in "
            "models/xfeat.yaml; give a detector as --detector"
        )
    try:
        facts = resources.read_yaml(path, ResourceError)
        heads = {
            head: Head(int(body["channels"][0]), int(body["channels"][1]), _quantisation(body))
            for head, body in facts["heads"].items()
        }
        stored = facts["input"]
        return Card(facts["name"], onnx, stored["dtype"], _quantisation(stored), heads, facts)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ResourceError(f"{path}: incomplete card ({error!r}); see models/xfeat.yaml") from error


def _quantisation(stored: Mapping[str, Any]) -> Quantisation:
    return Quantisation(float(stored["scale"]), int(stored["zero_point"]))
