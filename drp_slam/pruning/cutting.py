# SPDX-License-Identifier: Apache-2.0
"""Prunes the weights of a graph: saliencies, layer rates, masks, and compensation of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drp_slam.errors import PruningError
from drp_slam.pruning import allocation, importance, probe, recovery, selection, surgery
from drp_slam.pruning import prunable as L
from drp_slam.pruning.inputs import Feed, Feeds
from drp_slam.pruning.layout import DEFAULT_CELL, Cell
from drp_slam.pruning.methods import LEAST, saliency
from drp_slam.pruning.onnxgraph import Graph, identifier
from drp_slam.pruning.onnxnet import OnnxNet

STATISTICS_IMAGES = 64
REFIT_MACS, REFIT_SAMPLE, HELD_BYTES = 4e12, 256, 2**27
"""Work limit for refitting layers, which bounds the passes over the images; positions per image; most bytes of inputs,
and of the dense network's outputs, kept in memory."""
Say = Callable[[str, float], None]


@dataclass(frozen=True)
class Options:
    """Options of pruning, named as on the command line."""

    rate: float
    pattern: str = "flexible-nm"
    saliency: str = "obs"
    budget: str = "weights"
    schedule: str = "one-shot"
    layer_rates: str = "global"
    layers: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    stages: int = 4
    retrain: int = 0
    seed: int = 0
    cell: Cell = field(default=DEFAULT_CELL)
    learning_rate: float = 1e-4


def chosen(graph: Graph, options: Options) -> dict[str, Any]:
    """The layers named in the options, all by default. Raises PruningError that lists the available ones."""
    spare, names = ([identifier(n) for n in given] for given in (options.spare, options.layers))
    reasons = {identifier(label): f"{operator}: {reason}" for label, operator, _, reason in graph.dense}
    for name in names:
        if name in reasons:
            raise PruningError(f"layer {name!r} cannot be pruned: {reasons[name]}")
    if not graph.layers:
        found = "; ".join(dict.fromkeys(reasons.values())) or "no convolution, Gemm or MatMul with stored weights"
        raise PruningError(f"the network has no layer that can be pruned: {found}")
    return L.prunable(graph.bag, names or None, [n for n in spare if n not in reasons])


def prune(
    graph: Graph, options: Options, feeds: Feeds | None, say: Say = lambda *_: None, checkpoint: Path | None = None
) -> dict[str, Tensor]:
    """Prunes the layers of `graph` in place; returns the masks by layer.

    `feeds` may be None if nothing needs images (`needs_images`). With `retrain`, that many steps
    of distillation from the dense network follow, spread over the schedule's stages. One thread of
    torch and a fixed seed: the same arguments give the same weights. Raises PruningError.
    """
    selection.check_rate(options.rate)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    layers, dense = chosen(graph, options), graph.copied()
    needs_torch = bool(options.retrain) or saliency(options.saliency).needs_gradients
    net = OnnxNet(graph, parts=True).eval() if needs_torch else None
    teacher = OnnxNet(dense, parts=True).eval() if needs_torch else None
    if feeds is None and needs_images(options):
        raise PruningError(f"saliency {options.saliency} with these options needs images; give --calibration DIR")
    positions = None
    if options.budget == "cycles":
        assert feeds is not None
        positions = probe.positions(graph, layers, feeds[0])
    masks = {n: torch.ones_like(m.weight, dtype=torch.bool) for n, m in layers.items()}  # type: ignore[arg-type]
    stages = allocation.rates(options.schedule, options.rate, options.stages)
    for index, rate in enumerate(stages):

        def part_of(text: str, part: float, index: int = index) -> None:
            say(text, (index + 0.7 * part) / len(stages))

        if rate > 0:
            masks = _Stage(graph, net, teacher, dense, layers, masks, rate, options, feeds, positions, part_of).cut()
        share = [options.retrain * done // len(stages) for done in (index, index + 1)]
        if steps := share[1] - share[0]:
            assert net is not None and teacher is not None and feeds is not None

            def after(step: int, loss: float, index: int = index, steps: int = steps) -> None:
                say(f"retraining, loss {loss:.4g}", (index + 0.7 + 0.3 * step / steps) / len(stages))

            views = Stack(feeds.augmented(options.seed))
            recovery.retrain(
                net, teacher, layers, masks, views, steps, options.seed, checkpoint, after, options.learning_rate
            )
    return masks


def needs_images(options: Options) -> bool:
    """Whether pruning itself needs images."""
    measured = options.layer_rates == "sensitivity" or options.budget == "cycles" or bool(options.retrain)
    return measured or saliency(options.saliency).needs_images


@dataclass(frozen=True)
class Stack:
    """Feeds of one input as a sequence of tensors (N, C, H, W)."""

    feeds: Feeds

    def __len__(self) -> int:
        return len(self.feeds)

    def __getitem__(self, index: int) -> Tensor:
        (array,) = self.feeds[index].values()
        return torch.from_numpy(array)


@dataclass(frozen=True)
class _Stage:
    """One cut: prunes the layers to `rate`; weights that `before` removed stay removed."""

    graph: Graph
    net: OnnxNet | None
    teacher: OnnxNet | None
    dense: Graph
    layers: L.Layers
    before: Mapping[str, Tensor]
    rate: float
    o: Options
    feeds: Feeds | None
    positions: Mapping[str, int] | None
    say: Say

    def cut(self) -> dict[str, Tensor]:
        """Saliencies, layer rates, masks, and for OBS the compensating weights."""
        o, entry = self.o, saliency(self.o.saliency)
        if entry.decays:
            assert self.net is not None and self.teacher is not None and self.feeds is not None
            images = Stack(self.feeds.augmented(o.seed))
            recovery.unit_decay(self.net, self.teacher, self.layers, images, o.seed, self.say)
        statistics = self._statistics()
        values: dict[str, Tensor] = {}
        if not entry.moves_weights or o.layer_rates == "sensitivity":  # otherwise surgery chooses its own
            values = importance.saliencies(o.saliency, self.layers, statistics, seed=o.seed)
            values = {name: importance.standing(v, self.before[name]) for name, v in values.items()}
        rates = self._rates(values)
        options: dict[str, Any] = {"cell": o.cell, "positions": self.positions, "least": LEAST}
        if not entry.moves_weights:
            masks = selection.masks(values, rates, o.pattern, **options)
            masks = {name: mask & self.before[name] for name, mask in masks.items()}
            if statistics is not None:
                importance.absorb(self.layers, masks, statistics)
            L.apply(self.layers, masks)
            return masks
        assert statistics is not None and self.feeds is not None

        def operating(name: str, part: float) -> None:
            self.say(f"surgery on {name}", 0.4 + 0.3 * part)

        masks = surgery.surgery(
            self.layers, statistics, rates, o.pattern, before=self.before, progress=operating, **options
        )
        masks = {name: mask & self.before[name] for name, mask in masks.items()}
        refit(self.graph, self.dense, self.layers, masks, self.feeds.filled(STATISTICS_IMAGES, o.seed), self.say)
        return masks

    def _statistics(self) -> dict[str, importance.Statistics] | None:
        """Statistics for the saliency: from gradients if it needs them, else through onnxruntime."""
        entry = saliency(self.o.saliency)
        if not entry.needs:
            return None
        assert self.feeds is not None
        some = self.feeds.filled(STATISTICS_IMAGES, self.o.seed)
        if entry.needs_gradients:
            assert self.net is not None
            self.say("gradients", 0.0)
            images = torch.cat([Stack(some)[index] for index in range(len(some))])
            return importance.collect(self.net, self.layers, images, seed=self.o.seed, batch=4)
        return probe.collect(self.graph, self.layers, some, progress=lambda text, part: self.say(text, 0.4 * part))

    def _rates(self, values: Mapping[str, Tensor]) -> float | dict[str, float]:
        """A number (one budget over all layers), or a rate for each layer."""
        weights = {name: module.weight.detach() for name, module in self.layers.items()}
        if self.o.layer_rates == "uniform":
            return allocation.uniform(self.before, self.rate)
        if self.o.layer_rates == "magnitude":
            return allocation.by_magnitude(weights, self.rate, LEAST)
        if self.o.layer_rates != "sensitivity":
            return self.rate
        assert self.feeds is not None
        few = self.feeds.first(8)
        session = probe.Session(
            self.graph.updated(), self.graph.outputs, [self.graph.sites[name][0].stored for name in self.layers]
        )
        wanted = [session.run(feed) for feed in few]

        def harm(masks: Mapping[str, Tensor]) -> float:
            cut: dict[str, Any] = {}
            for name, mask in masks.items():
                cut |= probe.weight_as_stored(self.graph, name, weights[name] * mask)
            found = [probe.output_error(y, session.run(feed | cut)) for y, feed in zip(wanted, few)]
            return sum(found) / len(found)

        curves = allocation.sensitivity(values, harm, self.o.pattern, cell=self.o.cell)
        return allocation.by_sensitivity(curves, {name: v.numel() for name, v in values.items()}, self.rate)


def refit(
    graph: Graph,
    dense: Graph,
    layers: L.Layers,
    masks: Mapping[str, Tensor],
    feeds: Feeds,
    say: Say,
    damping: float = 0.01,
) -> None:
    """Refits each layer to the inputs that the pruned network gives it, under the masks.

    The target is the dense network's output of the same layer, so that later layers compensate
    errors of earlier ones. Layers are refitted in groups from first to last, as many groups as `REFIT_MACS`
    allow; each group uses the network after the previous groups.
    """
    count = probe.positions(graph, layers, feeds[0])
    macs = 2 * len(feeds) * sum(count[n] * m.weight.numel() for n, m in layers.items())
    most = max(1, -(-len(layers) // max(1, int(REFIT_MACS / max(macs, 1)))))
    twins, dense_model = dense.layers, dense.updated()
    inputs: Iterable[Feed] = list(feeds) if feeds.bytes <= HELD_BYTES else feeds
    parts = list(probe.groups(layers, most=min(most, probe.GROUP_LAYERS)))
    size = {
        n: 4 * len(feeds) * min(count[n], len(graph.sites[n]) * REFIT_SAMPLE) * len(layers[n].weight) for n in layers
    }
    targets: list[dict[str, list[Tensor]]] = []
    for number, group in enumerate(parts):
        say(f"refitting {', '.join(list(group)[:2])}", 0.7 + 0.3 * number / len(parts))
        if not targets or not group.keys() <= targets[0].keys():
            targets = _targets(dense_model, graph, _fitting(parts[number:], size), inputs)
        pruned = probe.Session(graph.updated(), probe.sources(graph, group))
        sums: dict[str, list[Tensor]] = {}
        for feed, wanted in zip(inputs, targets):
            values = pruned.run(feed)
            for name, module in group.items():
                for x, y in zip(probe.seen_rows(graph, name, module, values, REFIT_SAMPLE), wanted[name]):
                    if module.bias is not None:
                        x = torch.cat([x, torch.ones(len(x), 1)], 1)
                    own, target = (x.T @ x).double(), (x.T @ y).double()
                    before = sums.setdefault(name, [torch.zeros_like(own), torch.zeros_like(target)])
                    before[0] += own
                    before[1] += target
        for name, module in group.items():
            own, target = sums[name]
            surgery.solve_again(module, twins[name], masks[name], own, target, damping)


def _fitting(parts: Sequence[Mapping[str, Any]], size: Mapping[str, int]) -> dict[str, Any]:
    """The layers of the next groups, at least one group, whose targets fit into HELD_BYTES."""
    found: dict[str, Any] = {}
    for group in parts:
        if found and sum(size[n] for n in (*found, *group)) > HELD_BYTES:
            break
        found |= group
    return found


def _targets(model: Any, graph: Graph, layers: L.Layers, feeds: Iterable[Feed]) -> list[dict[str, list[Tensor]]]:
    """What the dense network's layers give at the places of `seen_rows`, (n, Cout) a site, for each input."""
    exact = probe.Session(model, [site.result for name in layers for site in graph.sites[name]])
    found = []
    for feed in feeds:
        values = exact.run(feed)
        rows = {}
        for name, module in layers.items():
            outputs = [torch.from_numpy(values[s.result].astype("float32")) for s in graph.sites[name]]
            rows[name] = [L.output_rows(module, y, REFIT_SAMPLE).flatten(0, 1).clone() for y in outputs]
        found.append(rows)
    return found
