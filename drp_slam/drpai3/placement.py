# SPDX-License-Identifier: Apache-2.0
"""Where each layer runs: the MAC array, the DRP inside DRP-AI3, or the Cortex-A55; and why.

The compiler's own list of operators is not public. These rules were chosen among the alternatives
in `choices` by how well they explain published board latencies (`fit.py` repeats the choice inside every
training fold); a rule without choices follows published material (slices: the notes of the
calibration folder) or is obvious.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drp_slam.drpai3.layers import Layer
from drp_slam.drpai3.subgraphs import Wiring

FUSED, MAC, DRP, CPU, COPY = range(5)
UNIT_NAMES = ("fused", "ai-mac", "drp", "cpu", "copy")
NEW_RELEASE = 2.7
"""TVM release of the vendor's compiler, by default."""


@dataclass(frozen=True)
class Rule:
    """`tag` of `subgraphs.find` -> unit. `older` is the unit before release `since`, if it differs.

    `reason` is for the report of fallbacks; `choices` are the units that the fit may choose from
    (for `older`, where there is one), the one that keeps most on the accelerator first.
    """

    tag: str
    unit: int
    reason: str = ""
    older: int | None = None
    choices: tuple[int, ...] = ()
    since: float = 2.7


RULES: tuple[Rule, ...] = (
    Rule("conv", MAC),
    Rule("depthwise", MAC),
    Rule("depthwise-large", MAC, "depthwise convolution of more than 3 x 3 taps", None, (MAC, CPU)),
    Rule("even-kernel", MAC, "kernel of an even number of taps beyond 2 x 2", None, (MAC, CPU)),
    Rule("deconv", MAC),
    Rule("fc", MAC),
    Rule("fc-tokens", MAC, "matrix of many tokens", None, (MAC, CPU)),
    Rule("asymmetric", MAC, "kernel of unequal sides, before release 2.7", CPU),
    Rule("grouped", CPU, "grouped convolution that is not depthwise"),
    Rule("conv-1d-3d", CPU, "convolution with one or three spatial axes"),
    Rule("activation", FUSED),
    Rule("pre-activation", CPU, "activation that no layer can absorb", None, (DRP, CPU)),
    Rule("silu", FUSED),
    Rule("half-swish", FUSED),
    Rule("hard-swish", DRP),
    Rule("curve", DRP),
    Rule("gate", CPU, "product with a gate from global pooling (broadcast over the image)"),
    Rule("gate-branch", CPU, "branch that computes a gate", None, (DRP, CPU)),
    Rule("add-fused", MAC),
    Rule("add", MAC),
    Rule("mul", DRP),
    Rule("sub", DRP),
    Rule("div", DRP),
    Rule("scale", DRP),
    Rule("scale-branch", DRP, "batch norm on a branch of its own", None, (DRP, CPU)),
    Rule("pool", DRP),
    Rule("global-pool", DRP),
    Rule("concat", COPY),
    Rule("concat-free", COPY),
    Rule("resize-nearest", DRP),
    Rule("resize-added", DRP),
    Rule("resize-smooth", CPU, "bilinear or bicubic resize", None, (DRP, CPU)),
    Rule("curve-fused", FUSED, "", None, (FUSED, DRP)),
    Rule("concat-mixed", COPY, "concatenation with an input made on the CPU", None, (COPY, CPU)),
    Rule("pad", FUSED),
    Rule("pad-mirror", CPU, "padding by reflection or by the edge"),
    Rule("view", FUSED),
    Rule("slice", CPU, "slice, or split in unequal parts"),
    Rule("split", COPY, "split of the channels, before release 2.5", CPU, (), 2.5),
    Rule("move", DRP),
    Rule("move-nd", CPU, "move of a tensor that is no image (four axes)"),
    Rule("arithmetic", CPU, "arithmetic with a constant or with broadcasting"),
    Rule("normalisation", CPU, "layer normalisation"),
    Rule("softmax", CPU, "softmax inside the network"),
    Rule("gelu", CPU, "error function (GELU)"),
    Rule("recurrent", CPU, "recurrent layer"),
    Rule("body", CPU, "control flow"),
    Rule("attention", CPU, "product of two activations (attention)"),
    Rule("other", CPU, "operator that no rule maps"),
)
BY_TAG = {rule.tag: rule for rule in RULES}
PREFIX = "placement."
MIXED = frozenset({"concat-mixed"})
"""Rules for layers whose inputs other units make: no tag of their own, see `_join_mixed`."""


def chosen_of(constants: Mapping[str, float]) -> dict[str, int]:
    """Rules that a device file overrides: `placement.<tag>`, a number of a unit (`UNIT_NAMES`)."""
    return {key.removeprefix(PREFIX): int(constants[key]) for key in constants if key.startswith(PREFIX)}


def units(
    tags: Sequence[str],
    layers: Sequence[Layer],
    wires: Wiring,
    release: float = NEW_RELEASE,
    chosen: Mapping[str, int] | None = None,
) -> np.ndarray:
    """(L,) unit of every layer. `chosen` overrides rules by tag (for the fit)."""
    chosen = chosen or {}
    out = np.zeros(len(tags), np.int8)
    for n, tag in enumerate(tags):
        rule = BY_TAG[tag]
        if rule.older is not None:
            unit = chosen.get(tag, rule.older) if release < rule.since else rule.unit
        else:
            unit = chosen.get(tag, rule.unit)
        out[n] = unit
        # a matrix product of a gate's branch stays a matrix product
        if tag == "gate-branch" and unit == DRP and layers[n].macs:
            out[n] = MAC if layers[n].op != "Conv" or len(layers[n].out_shape) == 4 else CPU
    _join_mixed(out, tags, layers, wires, chosen)
    return out


def _join_mixed(
    out: np.ndarray, tags: Sequence[str], layers: Sequence[Layer], wires: Wiring, chosen: Mapping[str, int]
) -> None:
    """Concatenations with an input from the CPU run by a rule of their own; an addition runs where the
    batch norm of its branch does."""
    made_by = out.copy()
    for n, layer in enumerate(layers):
        sources = [int(made_by[wires.producer[s]]) for s in wires.source(layer) if s in wires.producer]
        branch = any(tags[wires.producer[s]] == "scale-branch" for s in wires.source(layer) if s in wires.producer)
        if tags[n] in ("add", "add-fused") and branch:
            out[n] = chosen.get("scale-branch", BY_TAG["scale-branch"].unit)
        if tags[n] in ("concat", "concat-free") and CPU in sources:
            out[n] = chosen.get("concat-mixed", BY_TAG["concat-mixed"].unit)
        made_by[n] = out[n]
        if out[n] == FUSED and sources:
            made_by[n] = CPU if all(s == CPU for s in sources) else sources[-1]


def reason(tag: str, layer: Layer) -> str:
    """Why a layer fell back to the CPU."""
    return BY_TAG[tag].reason or f"operator {layer.op}"


def on_cpu(unit: np.ndarray, layers: Sequence[Layer], wires: Wiring) -> np.ndarray:
    """(L,) bool: runs on the Cortex-A55; a fused layer does if all its inputs are made there."""
    out = unit == CPU
    for n in np.flatnonzero(unit == FUSED).tolist():
        made = [wires.producer[s] for s in wires.source(layers[n]) if s in wires.producer]
        out[n] = bool(made) and all(bool(out[m]) for m in made)
    return out


@dataclass(frozen=True)
class Crossing:
    """A tensor that moves once from the accelerator to the CPU (`to_cpu`) or back."""

    tensor: str
    elements: int
    to_cpu: bool
    result: bool = False


def crossings(cpu: np.ndarray, wires: Wiring, sizes: Mapping[str, int], results_stay: bool = False) -> list[Crossing]:
    """Every tensor that crosses, and the network's results, which the CPU reads.

    With `results_stay` the DRP reads the results where the accelerator left them. Inputs are
    written directly to the unit that reads them and do not count.
    """
    found = []
    for name, readers in wires.consumers.items():
        if name not in wires.producer:
            continue
        here = bool(cpu[wires.producer[name]])
        if name not in wires.results and any(bool(cpu[r]) != here for r in readers):
            found.append(Crossing(name, sizes[name], not here))
    for name in sorted(wires.results):
        if name in wires.producer and bool(cpu[wires.producer[name]]) == results_stay:
            found.append(Crossing(name, sizes[name], not results_stay, not results_stay))
    return found
