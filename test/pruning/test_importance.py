# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.pruning import allocation, decay, importance  # noqa: E402
from drp_slam.pruning import prunable as L  # noqa: E402


def linear() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4)), torch.randn(200, 6)


def test_obd_of_the_network_is_the_rise_of_the_squared_output_change_of_a_linear_layer():
    net, x = linear()
    layers = L.prunable(net)
    few = x[:50].repeat(80, 1)  # the same images many times: the random signs average out
    statistics = importance.collect(net, layers, few, batch=50)
    found = importance.saliencies("obd-network", layers, statistics)["0"]
    weight = net[0].weight.detach()
    # |change of the outputs|^2 / 2 / outputs when one weight goes, averaged over the images
    exact = 0.5 * weight.square() * x[:50].square().mean(0) / 4
    assert torch.allclose(found.float(), exact, rtol=1e-4)


@pytest.mark.parametrize("output,given", [(0, 0), (1, 3), (3, 5)])
def test_obd_is_what_one_weight_costs_once_the_bias_has_made_up_for_its_mean(output, given):
    net, x = linear()
    x = x + torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    layers = L.prunable(net)
    statistics = importance.collect(net, layers, x, loss=None)
    found = importance.saliencies("obd", layers, statistics)["0"][output, given]
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[output, given] = False
    with torch.no_grad():
        before = net(x)
        importance.absorb(layers, {"0": mask}, statistics)
        L.apply(layers, {"0": mask})
        change = (net(x) - before)[:, output]
    assert float(change.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(0.5 * change.square().mean()) == pytest.approx(float(found), rel=1e-3)


def test_without_a_bias_obd_counts_the_mean_unless_the_statistics_are_centred():
    net, x = linear()
    net[0].bias, x = None, x + 2.0
    layers = L.prunable(net)
    plain = importance.collect(net, layers, x, loss=None)
    squares = 0.5 * net[0].weight.detach().double().square()
    found = importance.saliencies("obd", layers, plain)["0"]
    assert torch.allclose(found, squares * x.double().square().mean(0), rtol=1e-4)
    centred = {"0": plain["0"].centred()}
    found = importance.saliencies("obd", layers, centred)["0"]
    assert torch.allclose(found, squares * x.double().var(0, unbiased=False), rtol=1e-3)


def test_obs_saliency_is_the_closed_form():
    net, x = linear()
    layers = L.prunable(net)
    statistics = importance.collect(net, layers, x, loss=None)
    found = importance.saliencies("obs", layers, statistics, damping=0.0)["0"]
    inverse = torch.linalg.inv((x.T @ x / len(x)).double())
    expected = 0.5 * net[0].weight.detach().double().square() / inverse.diagonal()
    assert torch.allclose(found, expected, rtol=1e-4)


def test_saliencies_that_need_no_images():
    net, _ = linear()
    layers = L.prunable(net)
    assert torch.equal(importance.saliencies("magnitude", layers)["0"].float(), net[0].weight.detach().abs())
    one, two = (importance.saliencies("random", layers, seed=3)["0"] for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, importance.saliencies("random", layers, seed=4)["0"])
    with pytest.raises(PruningError, match="needs calibration images"):
        importance.saliencies("obd", layers)
    with pytest.raises(PruningError, match="'luck' is unknown"):
        importance.saliencies("luck", layers)


def test_taylor_is_gradient_times_weight():
    net, x = linear()
    layers = L.prunable(net)
    statistics = importance.collect(net, layers, x[:8], loss=lambda o, _: (o**2).sum(), batch=8)
    found = importance.saliencies("taylor", layers, statistics)["0"]
    (net(x[:8]) ** 2).sum().backward()
    expected = (net[0].weight.grad * net[0].weight).abs() / 8
    assert torch.allclose(found.float(), expected.detach(), rtol=1e-4)


def test_calibration_that_cannot_work_is_named():
    net, x = linear()
    layers = L.prunable(net)
    with pytest.raises(PruningError, match="no calibration image"):
        importance.collect(net, layers, x[:0])
    with pytest.raises(PruningError, match="NaN"):
        importance.collect(net, layers, x * float("nan"))
    with pytest.raises(PruningError, match=r"cannot be run on an input of shape \(16, 5\)"):
        importance.collect(net, layers, x[:, :5])
    assert all(p.requires_grad for p in net.parameters())


def test_unit_decay_shrinks_small_units_most_and_never_past_zero():
    net, _ = linear()
    with torch.no_grad():
        net[0].weight[0] = torch.tensor([1e-5, -1e-5, 0, 0, 0, 0])
        net[0].weight[1] = 5.0
    before = net[0].weight.detach().clone()
    decay.UnitDecay(L.prunable(net), strength=0.01, scale=2.0).step()
    after = net[0].weight.detach()
    assert not after[0].any()
    assert torch.allclose(before[1] - after[1], torch.tensor(0.02 / 61.0**2).expand(6), atol=1e-6)
    m = before[2].abs().sum()
    expected = before[2].sign() * (before[2].abs() - 0.02 / (1 + 2 * m) ** 2).clamp_min(0)
    assert torch.allclose(after[2], expected)


def test_schedules_end_at_the_rate_and_never_fall():
    for name in allocation.SCHEDULES:
        found = allocation.rates(name, 0.9, 10)
        assert found[-1] == pytest.approx(0.9) and found == sorted(found)
    cubic = [0.9 * (1 - (1 - t / 4) ** 3) for t in range(1, 5)]
    assert allocation.rates("agp", 0.9, 4) == pytest.approx(cubic)
    left = [1 - r for r in allocation.rates("iterative", 0.9, 3)]
    assert left[1] / left[0] == pytest.approx(left[0])
    with pytest.raises(PruningError, match="'weekly' is unknown"):
        allocation.rate_at("weekly", 0.5, 1, 1)
    with pytest.raises(PruningError, match="step 5 of 4"):
        allocation.rate_at("agp", 0.5, 5, 4)


def test_rates_by_magnitude_are_those_of_one_threshold_over_all_layers():
    weights = {"a": torch.arange(1.0, 101).reshape(10, 10), "b": torch.arange(51.0, 151)[None]}
    found = allocation.by_magnitude(weights, 0.5)
    assert found == pytest.approx({"a": 0.75, "b": 0.25})  # the threshold is 75.5
    assert allocation.by_magnitude({"a": weights["a"], "b": 1e6 * weights["b"]}, 0.5)["a"] == 0.99


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8, 0.95])
def test_rates_by_sensitivity_meet_the_budget_and_spare_the_sensitive(rate):
    probes = allocation.PROBES
    curves = {"tough": [0.001 * p for p in probes], "tender": list(probes)}
    found = allocation.by_sensitivity(curves, {"tough": 300, "tender": 100}, rate)
    assert (300 * found["tough"] + 100 * found["tender"]) / 400 == pytest.approx(rate, abs=1e-6)
    assert found["tough"] >= found["tender"] and all(0 <= r < 1 for r in found.values())


def test_sensitivity_probes_one_layer_at_a_time():
    seen = []

    def harm(masks):
        seen.append(tuple(masks))
        return 1.0 - next(iter(masks.values())).float().mean()

    values = {"a": torch.rand(16, 16), "b": torch.rand(16, 16)}
    curves = allocation.sensitivity(values, harm, "unstructured")
    assert set(seen) == {("a",), ("b",)}
    assert curves["a"] == pytest.approx(list(allocation.PROBES), abs=0.01)
    with pytest.raises(PruningError, match="NaN"):
        allocation.sensitivity(values, lambda _: float("nan"))
