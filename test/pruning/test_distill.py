# SPDX-License-Identifier: Apache-2.0
"""Retraining: masks hold exactly, checkpoints survive, int8 in training is int8 in the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from exact import exact_rows
from torch import nn

from drp_slam.drpai3 import emulator
from drp_slam.drpai3.quantize import quantize
from drp_slam.errors import PruningError
from drp_slam.pruning.xfeat import network, training, views
from drp_slam.pruning.xfeat.distill import MaskedTrainer, fit, save_checkpoint
from drp_slam.pruning.xfeat.export import to_onnx
from drp_slam.pruning.xfeat.qat import FakeQuantiser


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))


def noise() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn(2, 3, 8, 8, generator=generator)


def half(net: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().abs() > p.detach().abs().median() for n, p in net.named_parameters() if p.ndim > 1}


def test_masked_weights_never_move() -> None:
    net, teacher = small(), small()
    trainer = MaskedTrainer(net, 1e-2)
    fit(trainer, noise(), lambda x: (net(x) - teacher(x) - 1.0).square().mean(), 5)  # fills moments
    masks = half(net)
    trainer.mask(masks)

    def check(step: int, loss: float) -> None:
        for name, p in net.named_parameters():
            if name in masks:
                assert not p.detach()[~masks[name]].any()
                assert p.detach()[masks[name]].all()

    fit(trainer, noise(), lambda x: (net(x) - teacher(x)).square().mean(), 25, after=check)


def test_distillation_learns_the_teacher() -> None:
    net, teacher = small(), small()
    trainer = MaskedTrainer(net, 1e-2)
    trainer.mask(half(net))
    losses: list[float] = []
    fit(
        trainer,
        noise(),
        lambda x: (net(x) - teacher(x)).square().mean(),
        120,
        after=lambda step, loss: losses.append(loss),
    )
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])


def test_training_resumes_from_a_checkpoint(tmp_path: Path) -> None:
    x = next(noise())

    def train(path: Path | None, stop_at: int | None = None) -> nn.Module:
        net = small()
        trainer = MaskedTrainer(net, 1e-2)
        trainer.mask(half(net))

        def after(step: int, loss: float) -> None:
            if step == stop_at:
                raise KeyboardInterrupt

        same = iter(lambda: x, None)
        fit(trainer, same, lambda x: net(x).square().mean(), 20, path, keep_every=10, after=after)
        return net

    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(path, stop_at=15)
    resumed, whole = train(path), train(None)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))


def test_nan_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    net, path = small(), tmp_path / "good.pt"
    trainer = MaskedTrainer(net)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return net(x).square().mean() * (float("nan") if trainer.step == 3 else 1.0)

    with pytest.raises(PruningError, match=r"loss is nan at step 3.*good\.pt"):
        fit(trainer, noise(), loss, 10, path, keep_every=1)
    assert torch.load(path, weights_only=True)["step"] == 3
    assert all(p.isfinite().all() for p in net.parameters())


def test_disk_that_refuses_keeps_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(PruningError, match="cannot write"):
        save_checkpoint({}, tmp_path / "missing" / "a.pt")


def test_mask_of_an_unknown_parameter() -> None:
    with pytest.raises(PruningError, match="no parameter 'nothing'"):
        MaskedTrainer(small()).mask({"nothing": torch.ones(1)})


def test_views_know_where_cells_went() -> None:
    """A smooth image: the second view at `target` shows what the first shows at the cell."""
    y, x = np.mgrid[0:400, 0:500]
    image = (128 + 100 * np.sin(x / 60) * np.cos(y / 50)).astype(np.uint8)
    found = []
    for seed in range(6):
        view = views.draw([image], np.random.default_rng(seed), (128, 160))
        t = view.target
        inside = (t[..., 0] > 1) & (t[..., 0] < 18) & (t[..., 1] > 1) & (t[..., 1] < 14)
        row, column = np.nonzero(inside)
        first = view.images[0, 0][row * 8 + 4, column * 8 + 4]
        at = np.rint(t[inside] * 8 + 4).astype(int)
        second = view.images[1, 0][at[:, 1], at[:, 0]]
        found.append(np.corrcoef(first, second)[0, 1])
    assert np.median(found) > 0.9


def test_agreement_prefers_the_true_place() -> None:
    torch.manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(1, 64, 6, 8), dim=1)
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    here = torch.stack((x, y), -1)[None]
    point = torch.rand(1, 6, 8)
    right = training.agreement(torch.cat((d, d)), point, here)
    wrong = training.agreement(torch.cat((d, d)), point, here.flip(1))
    assert right < 0.1 < wrong


def test_batches_begin_anywhere() -> None:
    """Training that goes on from a checkpoint sees what it would have seen."""
    image = np.random.default_rng(0).integers(0, 256, (96, 128)).astype(np.uint8)
    teacher = network.xfeat()
    whole, late = (training.batches([image], teacher, 3, pool=9, shape=(32, 32), first=first) for first in (0, 4))
    for _ in range(4):
        before = next(whole)
    for batch in (next(late), next(late)):
        same = next(whole)
        assert all(torch.equal(a, b) for a, b in zip(batch, same))
        assert not torch.equal(before.images, same.images)


def test_a_level_is_flexible_nm_and_the_file_is_what_was_trained() -> None:
    torch.manual_seed(0)
    net, teacher = network.xfeat(mapped=True), network.xfeat()
    image = np.random.default_rng(0).integers(0, 256, (256, 320)).astype(np.uint8)
    quantiser = FakeQuantiser()

    def source(first: int) -> Iterator[training.Batch]:
        return training.batches([image], teacher, 0, shape=(64, 96), first=first)

    level = training.Level("test", 0.6, 5, 1e-4)
    trainer = training.train_level(net, quantiser, source, level, 0.0)
    kept = sum(int(m.sum()) for m in trainer.masks.values())
    assert 0.39 < kept / sum(m.numel() for m in trainer.masks.values()) <= 0.4
    for name, mask in trainer.masks.items():
        assert exact_rows(mask)
        assert not net.get_parameter(name).detach()[~mask].any()

    model = quantize(to_onnx(net, "t"), [np.zeros((1, 1, 32, 32), np.float32)], scales=quantiser.scales())
    quantiser.learning = False
    x = next(source(5)).images[:1]
    scale, zero = quantiser.scales()["tensor"]
    stored = np.clip(np.round(x.numpy() / scale) + zero, -128, 127).astype(np.int8)
    (heads,) = emulator.session(model.SerializeToString()).run(None, {"tensor": stored})
    with torch.no_grad():
        _, keypoints, _ = net.heads(x, quantiser.activation, quantiser.weight)
    scale, zero = quantiser.scales()["keypoints_3"]
    found = (heads[:, 64:129].astype(np.float32) - zero) * scale
    assert np.mean(np.abs(found - keypoints.numpy()) < 0.5 * scale) > 0.8
    assert np.abs(found - keypoints.numpy()).max() < 6 * scale


def test_levels_follow_each_other_and_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    levels = (training.Level("a", 0.3, 3, 1e-3), training.Level("b", 0.6, 3, 1e-3))
    image = np.random.default_rng(0).integers(0, 256, (200, 240)).astype(np.uint8)

    def train(folder: Path | None) -> tuple[dict[str, float], network.XFeatChip]:
        net, rates = network.xfeat(), {}

        def keep(level: training.Level, net: network.XFeatChip, q: FakeQuantiser) -> None:
            weights = [net.conv(s.name).weight for s in network.LAYERS]
            rates[level.name] = 1 - sum(int(w.count_nonzero()) for w in weights) / 658116
            if level.name == "a":
                stems.append([net.conv(n).weight.detach().clone() for n in network.STEM])

        training.distil(network.xfeat(), net, [image], "b", keep, folder, None, levels, (64, 96))
        return rates, net

    stems: list[list[torch.Tensor]] = []
    rates, net = train(tmp_path)
    assert rates == {"a": pytest.approx(0.3, abs=0.01), "b": pytest.approx(0.6, abs=0.01)}
    for name, before in zip(network.STEM, stems[0]):
        assert torch.equal(net.conv(name).weight, before), "the stem is frozen after its level"
    assert {p.name for p in tmp_path.iterdir()} == {"a.pt", "b.pt"}
    for other in (train(None)[1], train(tmp_path)[1]):  # once more; and from the checkpoints
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters()))


@pytest.mark.parametrize(
    ("name", "rate"), [("xfeat-p50", 0.5), ("xfeat-p70", 0.7), ("xfeat-p80", 0.8), ("xfeat-p90", 0.9)]
)
def test_shipped_networks_are_pruned_as_their_names_say(name: str, rate: float) -> None:
    """Zeros of the stored INT8 weights; quantisation may only add some to the masks'."""
    import onnx
    from onnx import numpy_helper

    from drp_slam import resources

    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(resources.network(name)).graph.initializer}
    weights = [stored[f"{s.name}.weight_quantized"] for s in network.LAYERS]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)
    assert rate <= zeros + 1e-4 < rate + 0.06


@pytest.mark.parametrize("device", ["warp", "cuda:99"])
def test_a_device_that_torch_does_not_have(device: str) -> None:
    net = network.XFeatChip(mapped=True)
    with pytest.raises(PruningError, match=f"torch device '{device}'.*try cpu"):
        training.distil(network.XFeatChip(), net, [], "xfeat", lambda *_: None, device=device)
