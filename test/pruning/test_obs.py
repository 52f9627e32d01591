# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from exact import exact_rows  # noqa: E402

from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.pruning import importance, layout, obs, surgery  # noqa: E402
from drp_slam.pruning import prunable as L  # noqa: E402


def quadratic(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(2 * n, n, generator=generator, dtype=torch.float64)
    return torch.randn(n, generator=generator, dtype=torch.float64), a.T @ a / n


def brute(w: torch.Tensor, hessian: torch.Tensor, removed: tuple[int, ...]) -> tuple[float, torch.Tensor]:
    """Least d^T H d / 2 with the removed weights at zero: the rest solved for, no OBS formula."""
    left = [i for i in range(len(w)) if i not in removed]
    gone = list(removed)
    d = torch.zeros_like(w)
    d[gone] = -w[gone]
    d[left] = -torch.linalg.solve(hessian[left][:, left], hessian[left][:, gone] @ d[gone])
    return float(0.5 * d @ hessian @ d), w + d


@pytest.mark.parametrize("seed", range(5))
def test_one_surgery_is_the_best_of_all(seed):
    w, hessian = quadratic(6, seed)
    found = obs.exact(w, hessian, 1)
    loss, best = min((brute(w, hessian, (q,)) for q in range(6)), key=lambda pair: pair[0])
    assert found.loss == pytest.approx(loss)
    assert torch.allclose(found.weights, best)


@pytest.mark.parametrize("seed,count", list(itertools.product(range(4), (2, 3, 5))))
def test_many_surgeries_equal_the_minimum_on_what_is_left(seed, count):
    w, hessian = quadratic(7, seed)
    found = obs.exact(w, hessian, count)
    loss, best = brute(w, hessian, tuple((~found.kept).nonzero()[:, 0].tolist()))
    assert found.loss == pytest.approx(loss) and int(found.kept.sum()) == 7 - count
    assert torch.allclose(found.weights, best, atol=1e-10)


def test_solving_a_layer_equals_the_single_steps_of_each_column():
    _, hessian = quadratic(8, 0)
    weights = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    steps = [obs.exact(weights[:, c], hessian, 2 + c) for c in range(3)]
    support = torch.stack([s.kept for s in steps], 1)
    found = obs.reconstruct(hessian @ weights, hessian, support)
    assert torch.allclose(found, torch.stack([s.weights for s in steps], 1), atol=1e-10)


def test_saliency_on_a_support_is_that_of_the_smaller_problem():
    w, hessian = quadratic(6, 2)
    support = torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.bool)
    left = support.nonzero()[:, 0]
    found = obs.saliency((w * support)[:, None], hessian, support[:, None])[:, 0]
    inverse = torch.linalg.inv(hessian[left][:, left])
    assert torch.allclose(found[left], 0.5 * w[left] ** 2 / inverse.diagonal())
    assert not found[~support].any()


def test_block_form_is_the_full_form_when_one_block_covers_the_layer():
    w, hessian = quadratic(9, 3)
    full = obs.exact(w, hessian, 4)
    for block in (9, 100):
        same = obs.exact(w, hessian, 4, block=block)
        assert torch.equal(same.weights, full.weights) and same.loss == full.loss
    diagonal = obs.exact(w, hessian, 4, block=1)  # nothing is coupled: OBD, no update
    order = (0.5 * w.square() * hessian.diagonal()).argsort()
    assert set((~diagonal.kept).nonzero()[:, 0].tolist()) == set(order[:4].tolist())
    assert torch.allclose(diagonal.weights[diagonal.kept], w[diagonal.kept])


def test_a_hessian_that_is_not_positive_definite_is_named():
    with pytest.raises(PruningError, match="not positive definite"):
        obs.exact(torch.ones(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 1)


def network() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 40, 3, bias=False),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(40 * 16, 5),
    )
    return net.eval(), torch.rand(40, 3, 6, 6)


@pytest.mark.parametrize("pattern", ["unstructured", "flexible-nm", "fixed-nm", "channel"])
def test_surgery_holds_the_pattern_and_beats_plain_masking(pattern):
    net, images = network()
    with torch.no_grad():
        wanted = net(images)
    layers = L.prunable(net)
    statistics = importance.collect(net, layers, images)
    before = {n: m.weight.detach().clone() for n, m in layers.items()}
    masks = surgery.surgery(layers, statistics, 0.5, pattern)
    with torch.no_grad():
        moved = (net(images) - wanted).square().sum()
        for name, module in layers.items():
            assert not module.weight[~masks[name]].any()
            module.weight.copy_(before[name] * masks[name])
        plain = (net(images) - wanted).square().sum()
    assert moved < 0.8 * plain
    assert layout.density(masks) <= 0.5 + 0.02
    if pattern == "flexible-nm":
        assert all(exact_rows(mask) for mask in masks.values())


def test_refit_lowers_the_error_of_the_outputs_and_holds_the_masks():
    import copy

    net, images = network()
    dense = copy.deepcopy(net)
    layers = L.prunable(net)
    masks = surgery.surgery(layers, importance.collect(net, layers, images), 0.6)
    with torch.no_grad():
        before = (net(images) - dense(images)).square().sum()
        surgery.refit(net, dense, layers, masks, images)
        after = (net(images) - dense(images)).square().sum()
    assert after < before
    assert all(not m.weight[~masks[n]].any() for n, m in layers.items())


def test_input_rows_are_what_the_weights_multiply():
    net, images = network()
    conv = net[0]
    rows = L.rows(conv, images)
    found = rows @ layout.matrix(conv.weight) + conv.bias
    assert torch.allclose(found, L.output_rows(conv, conv(images)), atol=1e-5)
    assert torch.equal(layout.unmatrix(layout.matrix(conv.weight), conv.weight.shape), conv.weight)


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2, "padding": 1}, {"padding": 2}])
def test_rows_of_other_convolutions_and_at_some_places_only(options):
    conv = torch.nn.Conv2d(3, 4, (3, 2), bias=False, **options)
    x = torch.rand(2, 3, 9, 8)
    every = L.output_rows(conv, conv(x))
    assert torch.allclose(L.rows(conv, x) @ layout.matrix(conv.weight), every, atol=1e-5)
    some = L.rows(conv, x, 5) @ layout.matrix(conv.weight)
    assert some.shape[1] == 5
    assert torch.allclose(some, L.output_rows(conv, conv(x), 5), atol=1e-5)


def test_rounds_follow_the_size_of_a_layer_and_pay():
    """Small layers take twelve rounds, large ones three; more rounds leave less error; masks only shrink."""
    assert surgery.rounds_of(torch.nn.Conv2d(16, 16, 3)) == 12
    assert surgery.rounds_of(torch.nn.Conv2d(512, 512, 3)) == 3
    assert 3 < surgery.rounds_of(torch.nn.Conv2d(64, 64, 3)) < 12
    torch.manual_seed(0)
    torch.set_num_threads(1)
    small, large = torch.nn.Conv2d(8, 16, 3, padding=1), torch.nn.Conv2d(16, 32, 3, padding=1)
    net = torch.nn.Sequential(small, torch.nn.ReLU(), large).eval()
    start = {k: v.clone() for k, v in net.state_dict().items()}
    x = torch.nn.functional.avg_pool2d(torch.randn(6, 8, 18, 18), 3, 1)
    layers = L.prunable(net)
    statistics = importance.collect(net, layers, x, loss=None)
    with torch.no_grad():
        wanted = net(x)
    errors = {}
    for rounds in (1, 3, 12):
        net.load_state_dict(start)
        masks = surgery.surgery(layers, statistics, 0.8, rounds=rounds)
        assert layout.density(masks) <= 0.2 + 1e-6
        with torch.no_grad():
            errors[rounds] = float((net(x) - wanted).square().sum() / wanted.square().sum())
    assert errors[12] < errors[3] < errors[1]
    net.load_state_dict(start)
    seen = []
    steps = surgery.operate(layers, statistics, [0.2, 0.4, 0.6, 0.8], "unstructured", rounds={"0": 2, "2": 4})
    for masks in steps:
        seen.append({n: (m.clone(), layers[n].weight.detach().clone()) for n, m in masks.items()})
    assert [bool((a["0"][1] != b["0"][1]).any()) for a, b in itertools.pairwise(seen)] == [True, False, True]
    assert all((b[n][0] <= a[n][0]).all() for a, b in itertools.pairwise(seen) for n in layers)
    assert layout.density(masks) == pytest.approx(0.2, abs=0.01)
