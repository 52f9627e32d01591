# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from exact import exact_rows  # noqa: E402
from torch import nn  # noqa: E402

from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.pruning import importance, layout, lowrank, structured  # noqa: E402
from drp_slam.pruning import prunable as L  # noqa: E402
from drp_slam.pruning.pruner import Pruner, get_model_info, load_pruned_state_dict, make_pruning_layer_list  # noqa: E402


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(32, 40, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(40, 4),
    )


X = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_layer_list_leaves_out_what_does_not_pack():
    assert make_pruning_layer_list(network(), [X]) == ["0", "4", "7"]


@pytest.mark.parametrize("schedule,steps", [("one-shot", 1), ("agp", 6), ("iterative", 6)])
def test_a_training_loop_never_moves_a_removed_weight(schedule, steps):
    net = network()
    pruner = Pruner(net, make_pruning_layer_list(net, [X]), final_pr=0.7, schedule_name=schedule, steps=steps)
    optimiser = torch.optim.SGD(net.parameters(), 1e-4, momentum=0.9)
    rates, removed = [], {}
    for _ in range(10):
        rates.append(pruner.update())
        for name, mask in removed.items():
            assert not (pruner.masks[name] & ~mask).any(), "a weight came back"
        removed = {n: m.clone() for n, m in pruner.masks.items()}
        optimiser.zero_grad()
        (net(X) ** 2).sum().backward()
        optimiser.step()
    pruner.update()
    assert rates == sorted(rates) and rates[-1] == pytest.approx(0.7, abs=0.06)
    for name, module in pruner.layers.items():
        assert not module.weight[~pruner.masks[name]].any()
        assert exact_rows(pruner.masks[name])


def test_zeros_hold_after_loading_a_pruned_state():
    net = network()
    Pruner(net, final_pr=0.5).update()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    other = network()
    pruner = load_pruned_state_dict(other, state)
    optimiser = torch.optim.SGD(other.parameters(), 0.1)
    (other(X) ** 2).sum().backward()
    optimiser.step()
    for name, module in pruner.layers.items():
        zeros = state[f"{name}.weight"] == 0
        assert zeros.any() and not module.weight[zeros].any()
    again = Pruner(network(), final_pr=0.0)
    again.load_state_dict(pruner.state_dict())
    assert again.rate == pytest.approx(pruner.rate)


def test_model_info_counts():
    net = network()
    info = get_model_info(net, [X])
    assert info["parameters"] == 32 * 27 + 40 * 32 + 4 * 40 and info["pruning_rate"] == 0.0
    assert info["layers"][0]["macs"] == 32 * 27 * 64
    assert info["layers"][0]["cycles"] == 27 * 64  # one block of 32 outputs
    Pruner(net, final_pr=0.5).update()
    assert get_model_info(net, [X])["cycles"] < 0.6 * info["cycles"]


def test_bad_input_is_named():
    net = network()
    with pytest.raises(PruningError, match="final_pr is 1.0"):
        Pruner(net, final_pr=1.0)
    with pytest.raises(PruningError, match="no layer 'conv9'"):
        Pruner(net, ["conv9"])
    with pytest.raises(PruningError, match="'3' .*groups=32.* cannot be pruned"):
        Pruner(net, ["3"])
    with pytest.raises(PruningError, match="cannot be run on an input of shape"):
        make_pruning_layer_list(net, [torch.zeros(1, 5, 8, 8)])
    with pytest.raises(PruningError, match="does not fit"):
        load_pruned_state_dict(net, {})
    with pytest.raises(PruningError, match="obs"):
        Pruner(net, saliency="obs")


def test_low_rank_is_exact_at_full_rank_and_best_below():
    conv = network()[0]
    w = layout.matrix(conv.weight.detach()).double()
    left, values, right = lowrank.decompose(w)
    assert torch.allclose(left @ right, w, atol=1e-12)
    for rank in (1, 5, 20):
        error = (left[:, :rank] @ right[:rank] - w).square().sum()
        assert error == pytest.approx(float(values[rank:].square().sum()))
    pair = lowrank.factorised(conv, left, right, len(values))
    assert torch.allclose(pair(X), conv(X), atol=1e-5)


def test_low_rank_for_the_data_beats_plain_low_rank():
    net = network().eval()
    layers = {"4": net[4]}
    hessian = importance.collect(net, layers, X)["4"].inputs[:-1, :-1]
    w = layout.matrix(net[4].weight.detach()).double()

    def error(parts: tuple) -> float:
        difference = parts[0][:, :8] @ parts[2][:8] - w
        return float((difference.T @ hessian @ difference).trace())

    assert error(lowrank.decompose(w, hessian)) < error(lowrank.decompose(w))
    count = sum(p.numel() for p in net[4].parameters())
    ranks = lowrank.factorise(net, layers, 0.6)
    assert ranks["4"] > 0 and sum(p.numel() for p in net[4].parameters()) < 0.5 * count
    assert net(X).shape == (8, 4)


def test_structured_removal_keeps_the_network_whole():
    pytest.importorskip("torch_pruning")
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 4),
    ).eval()
    with torch.no_grad():
        net[0].weight[::2] *= 1e-3
    values = importance.saliencies("magnitude", L.prunable(net))
    strong = net[0].weight[1::2].detach().clone()
    found = structured.remove_filters(net, X, 0.5, values, spare=("7",))
    assert net(X).shape == (8, 4)
    assert net[0].out_channels == 8 and net[3].out_channels == 12 and net[7].out_features == 4
    assert torch.equal(net[0].weight, strong)
    assert found["parameters_after"] < 0.4 * found["parameters_before"]
