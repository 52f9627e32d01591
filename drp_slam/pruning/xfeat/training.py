# SPDX-License-Identifier: Apache-2.0
"""XFeat in INT8, dense, then down to 50, 70, 80, 90, 95 and 97 % flexible N:M, each level distilled on
from the one before.

Every step uses the network as the chip runs it: masked, rounded to int8, upsampling in its mapped
form. The student learns the exact dense teacher's descriptors, keypoints and reliability, and that
two views of one place match.
Masks tighten along a cubic (Zhu and Gupta, 2017) in the first part of a level, by OBD's saliency
under one budget for the whole network; removed weights stay removed.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from drp_slam.card import HEADS
from drp_slam.errors import PruningError
from drp_slam.pruning.images import folder_images, package_images
from drp_slam.pruning.methods import LEAST
from drp_slam.pruning.selection import masks
from drp_slam.pruning.xfeat import views
from drp_slam.pruning.xfeat.distill import MaskedTrainer, fit
from drp_slam.pruning.xfeat.network import STEM, XFeatChip
from drp_slam.pruning.xfeat.qat import FakeQuantiser

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Level:
    """One shipped network: fraction of the weights removed, optimiser steps, learning rate."""

    name: str
    rate: float
    steps: int
    learning_rate: float


LEVELS = (
    Level("xfeat", 0.0, 400, 3e-4),
    Level("xfeat-p50", 0.5, 600, 6e-4),
    Level("xfeat-p70", 0.7, 1800, 8e-4),
    Level("xfeat-p80", 0.8, 1200, 1e-3),
    Level("xfeat-p90", 0.9, 3600, 1e-3),
    Level("xfeat-p95", 0.95, 9000, 1e-3),
    Level("xfeat-p97", 0.97, 3600, 1e-3),
)
LONGEST_PX, SHAPE = 1000, (256, 352)
PAIRS = 4
"""Pairs of views in a batch."""
TIGHTEN_EVERY, TIGHTEN_PART, LEARN_RANGES_PART = 25, 0.4, 0.7


class Batch(NamedTuple):
    """`images` (2B, 1, H, W), first views then second; `stem` (2B, 24, H/4, W/4), the student's,
    or empty while its stem is trained; `target` (B, h, w, 2); `teacher` heads."""

    images: torch.Tensor
    stem: torch.Tensor
    target: torch.Tensor
    teacher: torch.Tensor


Stem = Callable[[torch.Tensor], torch.Tensor]


def batches(
    images: Sequence[np.ndarray],
    teacher: XFeatChip,
    seed: int,
    stem: Stem | None = None,
    pool: int = 600,
    shape: tuple[int, int] = SHAPE,
    first: int = 0,
) -> Iterator[Batch]:
    """Endless batches from a pool of pairs with the teacher's outputs: each step one new pair
    is added and the oldest removed, so a pair is seen about `PAIRS` times. `stem` is the student's,
    once it is frozen. Starts at step `first`, with the same state as from 0."""
    stored: deque[tuple[torch.Tensor, ...]] = deque(maxlen=pool)
    device = next(teacher.parameters()).device
    for step in itertools.count(first):
        newest = step + 2 * PAIRS
        for i in range(newest - 1 if stored else max(0, newest - pool), newest):
            view = views.draw(images, np.random.default_rng([seed, 0, i]), shape)
            x = torch.from_numpy(view.images).to(device)
            with torch.inference_mode():
                heads = teacher(x).half()
                front = stem(x).half() if stem else torch.empty(2, 0, device=device)
            stored.append((x.half(), front.clone(), torch.from_numpy(view.target).to(device), heads.clone()))
        rng = np.random.default_rng([seed, 1, step])
        chosen = [stored[i] for i in rng.choice(len(stored), PAIRS, replace=False)]
        x, front, target, heads = (torch.stack(parts).float() for parts in zip(*chosen))
        x, front, heads = (t.transpose(0, 1).flatten(0, 1) for t in (x, front, heads))
        if stem:
            front = front.contiguous(memory_format=torch.channels_last)
        yield Batch(x.contiguous(memory_format=torch.channels_last), front, target, heads)


def loss(net: XFeatChip, quantiser: FakeQuantiser, batch: Batch, bf16: bool = True) -> torch.Tensor:
    """Descriptors (cosine), keypoints (KL), reliability (cross entropy), agreement of views."""
    with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=bf16):
        hooks = quantiser.activation, quantiser.weight
        if batch.stem.numel():
            d, k, r = net.trunk(batch.images, batch.stem, *hooks)
        else:
            d, k, r = net.heads(batch.images, *hooks)
    d, k, r = d.float(), k.float(), r.float()
    td, tk, tr = (batch.teacher[:, a:b] for a, b in HEADS.values())
    point = 1.0 - torch.softmax(tk, 1)[:, 64]  # how likely a cell holds a keypoint
    weight = (0.15 + point) / (0.15 + point).mean((1, 2), keepdim=True)  # bare walls have weight, too
    d, td = F.normalize(d, dim=1), F.normalize(td, dim=1)
    descriptors = (weight * (1.0 - (d * td).sum(1))).mean()
    kl = F.kl_div(F.log_softmax(k, 1), F.log_softmax(tk, 1), log_target=True, reduction="none")
    keypoints = (weight * kl.sum(1)).mean()
    reliability = F.binary_cross_entropy_with_logits(r, torch.sigmoid(tr))
    agree = agreement(d, point[: len(batch.target)], batch.target)
    return 5.0 * descriptors + keypoints + reliability + 0.2 * agree


def agreement(
    d: torch.Tensor, point: torch.Tensor, target: torch.Tensor, count: int = 192, temperature: float = 0.07
) -> torch.Tensor:
    """InfoNCE both ways between cells of the first views and their places in the second."""
    pairs, _, h, w = point.shape[0], *d.shape[1:]
    inside = (target[..., 0] >= 0) & (target[..., 0] <= w - 1) & (target[..., 1] >= 0) & (target[..., 1] <= h - 1)
    score = torch.where(inside, point, -1.0).flatten(1)
    index = score.topk(min(count, score.shape[1]), dim=1).indices
    valid = score.gather(1, index) > 0
    grid = torch.stack((target[..., 0] * 2 / (w - 1) - 1, target[..., 1] * 2 / (h - 1) - 1), -1)
    grid = grid.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 2))
    a = d[:pairs].flatten(2).gather(2, index[:, None].expand(-1, d.shape[1], -1))
    b = F.grid_sample(d[pairs:], grid[:, None].clamp(-1, 1), align_corners=True)[:, :, 0]
    similar = torch.einsum("ncp,ncq->npq", a, F.normalize(b, dim=1)) / temperature
    similar = similar.masked_fill(~(valid[:, :, None] & valid[:, None, :]), -1e4)
    label = torch.arange(index.shape[1], device=d.device).expand(pairs, -1).masked_fill(~valid, -100)
    return 0.5 * (F.cross_entropy(similar, label) + F.cross_entropy(similar.transpose(1, 2), label))


def freeze_stem(net: XFeatChip, quantiser: FakeQuantiser) -> Stem:
    """Freezes the stem and returns it as a function, so that it is computed once."""
    for name in STEM:
        net.convs[name].requires_grad_(False)
    quantiser.fixed |= {*STEM}

    def stem(x: torch.Tensor) -> torch.Tensor:
        return net.stem(x, quantiser.activation, quantiser.weight)

    return stem


def tightened(trainer: MaskedTrainer, rate: float) -> None:
    """Masks of `rate` by OBD's saliency, one budget for the network; frozen layers keep their masks."""
    found = {n: s for n, s in trainer.saliency().items() if trainer.learns(n)}
    frozen = [m for n, m in trainer.masks.items() if not trainer.learns(n)]
    moving = sum(s.numel() for s in found.values())
    total = moving + sum(m.numel() for m in frozen)
    kept = (1.0 - rate) * total - sum(int(m.sum()) for m in frozen)
    trainer.mask(masks(found, 1.0 - kept / moving, "flexible-nm", least=LEAST))


def training_images(data: Path | None) -> list[np.ndarray]:
    """Photographs of installed packages, ten times each, and those of `data` if given."""
    found = []
    for image in package_images():
        factor = min(1.0, LONGEST_PX / max(image.shape))
        found.append(
            cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1.0 else image
        )
    return found * 10 + (folder_images(data) if data is not None else [])


def distil(
    teacher: XFeatChip,
    net: XFeatChip,
    images: Sequence[np.ndarray],
    last: str,
    keep: Callable[[Level, XFeatChip, FakeQuantiser], None],
    folder: Path | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
    levels: Sequence[Level] = LEVELS,
    shape: tuple[int, int] = SHAPE,
    device: str = "cpu",
) -> None:
    """The levels up to `last`, in place; `keep` is called with the network after each. `shape` is that of the
    views, `device` a torch device. Deterministic on one machine's CPU, also when it resumes from
    checkpoints in `folder`. Raises PruningError if torch does not have `device`."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for module in (teacher, net):
        _move(module, device)
        for parameter in module.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    teacher.requires_grad_(False)
    quantiser = FakeQuantiser()
    stem: Stem | None = None
    previous: MaskedTrainer | None = None
    rate = 0.0
    for index, level in enumerate(levels[: [lv.name for lv in levels].index(last) + 1]):
        if rate > 0 and stem is None:  # it has been pruned as far as possible
            stem = freeze_stem(net, quantiser)

        def source(first: int, seed: int = 1 + index, stem: Stem | None = stem) -> Iterator[Batch]:
            return batches(images, teacher, seed, stem, shape=shape, first=first)

        state = folder / f"{level.name}.pt" if folder is not None else None
        previous = train_level(net, quantiser, source, level, rate, state, progress, previous)
        rate = level.rate
        keep(level, net, quantiser)


def _move(module: XFeatChip, device: str) -> None:
    try:
        module.to(device)
    except (RuntimeError, AssertionError) as error:  # an unknown name, or not supported by this torch
        raise PruningError(f"torch device {device!r}: {str(error).splitlines()[0]}; try cpu or cuda") from error


def train_level(
    net: XFeatChip,
    quantiser: FakeQuantiser,
    source: Callable[[int], Iterator[Batch]],
    level: Level,
    start_rate: float,
    state: Path | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
    previous: MaskedTrainer | None = None,
) -> MaskedTrainer:
    """Trains `net` in place from `start_rate` to `level.rate`; the trainer has the masks.
    `source` gives batches from a step on."""
    trainer = MaskedTrainer(net, level.learning_rate)
    if previous is not None:
        trainer.fisher = previous.fisher
        trainer.mask(previous.masks)
    trainer.memory["ranges"] = quantiser.ranges
    ramp = max(1, int(level.steps * TIGHTEN_PART))

    def after(step: int, value: float) -> None:
        if level.rate > 0 and step <= ramp and (step % TIGHTEN_EVERY == 0 or step == ramp):
            done = min(1.0, step / ramp)
            tightened(trainer, level.rate + (start_rate - level.rate) * (1.0 - done) ** 3)
        if progress is not None:
            progress(level.name, step, level.steps, value)

    def following() -> Iterator[Batch]:  # starts after a checkpoint is loaded
        yield from source(trainer.step)

    def judged(batch: Batch) -> torch.Tensor:
        step = trainer.step
        quantiser.learning = step < level.steps * LEARN_RANGES_PART and step % 4 == 0
        return loss(net, quantiser, batch)

    fit(trainer, following(), judged, level.steps, state, after=after)
    return trainer
