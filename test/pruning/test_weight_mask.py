# SPDX-License-Identifier: Apache-2.0
"""Masks hold whatever the optimizer does: what is saved is exactly sparse at every moment."""

from __future__ import annotations

import copy
import io

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from drp_slam.pruning.pruner import Pruner, deepcopy_model, load_pruned_state_dict  # noqa: E402

X = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(16) % 4


def network() -> nn.Sequential:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)
    return nn.Sequential(*conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4))


def loss(net: nn.Module) -> torch.Tensor:
    return nn.functional.cross_entropy(net(X), Y)


def zeros(state: dict) -> float:
    weights = [v for k, v in state.items() if k.endswith("weight") and v.ndim > 1]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def saved(net: nn.Module) -> dict:
    """What a file of the network's state holds."""
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["one-shot", "agp"])
def test_optimizer_state_from_before_pruning_fills_nothing(name, schedule):
    """Renesas' resume path: momentum of dense training meets a network that is pruned now."""
    net = network()
    before = OPTIMIZERS[name](net.parameters())
    for _ in range(5):
        before.zero_grad()
        loss(net).backward()
        before.step()
    after = OPTIMIZERS[name](net.parameters())
    after.load_state_dict(before.state_dict())
    pruner = Pruner(net, final_pr=0.7, schedule_name=schedule, steps=4)
    for _ in range(8):
        pruner.update()
        after.zero_grad()
        loss(net).backward()
        after.step()
        assert zeros(net.state_dict()) >= pruner.rate - 1e-6
    assert pruner.rate == pytest.approx(0.7, abs=0.03)
    assert zeros(saved(net)) == pytest.approx(pruner.rate, abs=1e-6)
    assert all(torch.isfinite(v).all() for v in net.state_dict().values())


def test_every_weight_that_is_kept_still_learns():
    net = network()
    pruner = Pruner(net, final_pr=0.5)
    start = {n: m.weight.detach().clone() for n, m in pruner.layers.items()}
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    loss(net).backward()
    optimizer.step()
    for name, module in pruner.layers.items():
        kept = pruner.masks[name] & (module.weight.grad != 0)
        assert kept.any() and (module.weight.detach() != start[name])[kept].all()


@pytest.mark.parametrize("made", ["deepcopy_model", "deepcopy", "AveragedModel"])
def test_an_average_of_the_weights_has_the_masks_of_the_pruner(made):
    net = network()
    pruner = Pruner(net, final_pr=0.6, schedule_name="agp", steps=6)
    pruner.update()
    if made == "AveragedModel":
        ema = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    else:
        ema = deepcopy_model(net) if made == "deepcopy_model" else copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for _ in range(8):
        pruner.update()
        optimizer.zero_grad()
        loss(net).backward()
        optimizer.step()
        if made == "AveragedModel":
            ema.update_parameters(net)
        else:
            with torch.no_grad():
                for mean, now in zip(ema.state_dict().values(), net.state_dict().values()):
                    if mean.is_floating_point():
                        mean.mul_(0.9).add_(0.1 * now)
    assert zeros(saved(ema)) == pytest.approx(pruner.rate, abs=1e-6)
    with torch.no_grad():
        assert torch.isfinite(ema.eval()(X)).all()


def test_gradient_accumulation_and_two_passes_before_one_backward():
    net = network()
    pruner = Pruner(net, final_pr=0.7)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for step in range(8):
        pruner.update()
        (loss(net) + loss(net)).backward()  # the mask of the second pass must not disturb the first
        if step % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
    assert zeros(saved(net)) == pytest.approx(pruner.rate, abs=1e-6)


def test_mixed_precision_with_a_scaler():
    net = network()
    pruner = Pruner(net, final_pr=0.7)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(4):
        pruner.update()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(net)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert zeros(saved(net)) == pytest.approx(pruner.rate, abs=1e-6)


def test_data_parallel():
    net = network()
    pruner = Pruner(net, final_pr=0.7)
    wrapped = nn.DataParallel(net)
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        pruner.update()
        optimizer.zero_grad()
        loss(wrapped).backward()
        optimizer.step()
    assert zeros(saved(wrapped)) == pytest.approx(pruner.rate, abs=1e-6)


def test_a_compiled_network():
    """With the backend that traces only: the others need a compiler and the time of one."""
    net = network()
    pruner = Pruner(net, final_pr=0.7)
    compiled = torch.compile(net, backend="eager")
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        pruner.update()
        optimizer.zero_grad()
        loss(compiled).backward()
        optimizer.step()
        assert zeros(net.state_dict()) == pytest.approx(pruner.rate, abs=1e-6)
    assert zeros(saved(compiled)) == pytest.approx(pruner.rate, abs=1e-6)


def test_a_second_pruner_keeps_the_masks_of_the_first():
    net = network()
    first = Pruner(net, final_pr=0.5)
    removed = {n: ~m for n, m in first.masks.items()}
    second = Pruner(net, final_pr=0.8)
    assert second.rate == pytest.approx(0.8, abs=0.03) and first.rate == second.rate
    assert all(not second.masks[n][gone].any() for n, gone in removed.items())


def test_weights_loaded_later_set_the_masks_of_a_pruner_at_zero():
    pruned = network()
    Pruner(pruned, final_pr=0.6).update()
    state = saved(pruned)
    for load in (lambda net: load_pruned_state_dict(net, state), lambda net: zero_then_load(net, state)):
        net = network()
        load(net)
        optimizer = torch.optim.AdamW(net.parameters(), 0.1)
        loss(net).backward()
        optimizer.step()
        assert zeros(saved(net)) == pytest.approx(zeros(state), abs=1e-6)


def zero_then_load(net: nn.Module, state: dict) -> None:
    Pruner(net, final_pr=0.0)
    net.load_state_dict(state)


def test_a_whole_network_can_be_pickled_and_still_holds():
    net = network()
    pruner = Pruner(net, final_pr=0.7)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    with torch.no_grad():
        again[0].weight.fill_(1.0)
    assert zeros(again.state_dict()) == pytest.approx(pruner.rate, abs=1e-6)
