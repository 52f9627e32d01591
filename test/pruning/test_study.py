# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from drp_slam.cli import main  # noqa: E402
from drp_slam.commands.study import side_by_side  # noqa: E402
from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.pruning import deepcompression as dc  # noqa: E402
from drp_slam.pruning import imitation, layout, sharing  # noqa: E402
from drp_slam.pruning import prunable as L  # noqa: E402
from drp_slam.pruning.studies import compression, digits, plots, reference, resnet20, series, splits  # noqa: E402
from drp_slam.pruning.studies.checkpoints import Checkpoints  # noqa: E402


def test_halves_have_every_class_once_and_are_mixed():
    labels = torch.arange(10).repeat_interleave(20)
    use, judge = splits.halves(labels, 1)
    assert sorted([*use.tolist(), *judge.tolist()]) == list(range(200))
    assert (labels[use].bincount() == 10).all() and (labels[judge].bincount() == 10).all()
    assert len(labels[use][:30].unique()) > 5
    assert not torch.equal(use, splits.halves(labels, 2)[0])


def test_the_cifar_network_is_resnet20():
    net = reference.resnet20()
    assert sum(p.numel() for p in net.parameters()) == 269_722  # 0.27 M, He et al. 2015, table 6
    assert len(L.prunable(net)) == 20
    assert L.positions(net, L.prunable(net), torch.zeros(1, 3, 32, 32))["layer3.0.conv1"] == 64


@pytest.mark.skipif("DRP_SLAM_DATA" not in os.environ, reason="DRP_SLAM_DATA names no data folder")
def test_given_weights_score_as_their_readme_says():
    data = Path(os.environ["DRP_SLAM_DATA"])
    weights = next((data / "networks" / "resnet_cifar10").glob("resnet20*.th"))
    images, labels, classes = reference.cifar_folder(data / "cifar10_test_1000")
    assert len(classes) == 10
    assert reference.accuracy(reference.resnet20(weights), images, labels) == pytest.approx(0.804)


def test_trained_centroids_keep_zeros_and_sharing_and_survive_the_file():
    pytest.importorskip("sklearn")
    x, y, _, _ = digits.load_digits(200, 0)
    net = digits.lenet(8, 0)
    masks = digits.prune_and_train(net, x, y, 0.8, 6, 0)
    start = {n: m.weight.detach().numpy() for n, m in L.prunable(net).items()}
    untrained = {n: sharing.share(w[w != 0], 3 if w.ndim == 4 else 2).codebook for n, w in start.items()}
    state, shared = sharing.share_and_train(net, (3, 2), lambda tie: digits.train(net, x, y, 5, 0, 1e-3, tie))
    for name, mask in masks.items():
        weight = state[f"{name}.weight"]
        assert not weight[~mask.numpy()].any()
        assert len(np.unique(weight[weight != 0])) <= (8 if weight.ndim == 4 else 4)
    blob, sizes = dc.encode(state, shared)
    back = dc.decode(blob)
    assert all(back[n].tobytes() == state[n].tobytes() for n in state)
    assert sizes.ratio > 4
    assert any(not np.allclose(shared[f"{n}.weight"].codebook, untrained[n]) for n in untrained)


def test_a_loss_that_is_not_finite_and_missing_data_are_named(tmp_path, capsys):
    net = digits.lenet(4, 0)
    with pytest.raises(PruningError, match="loss is nan at step 0"):
        digits.train(net, torch.full((4, 1, 8, 8), float("nan")), torch.zeros(4).long(), 2, 0)
    assert main(["study", "resnet20", "--data", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    assert "resnet20*.th" in capsys.readouterr().err
    with pytest.raises(PruningError, match="no image in class folders"):
        reference.cifar_folder(tmp_path)
    (tmp_path / "bad.th").write_bytes(b"nothing")
    with pytest.raises(PruningError, match=r"bad\.th: cannot load"):
        reference.resnet20(tmp_path / "bad.th")


def test_a_study_resumes_and_starts_again_with_new_settings(tmp_path):
    made = []

    def make(value: int) -> list[int]:
        made.append(value)
        return [value]

    kept = Checkpoints(tmp_path / "parts", "a")
    assert kept("one", lambda: make(1))[0] == [1]
    assert kept("one", lambda: make(2))[0] == [1] and made == [1]
    (tmp_path / "parts" / "one.json").write_text('{"settings": "a", "resu')  # cut off
    assert kept("one", lambda: make(3))[0] == [3]
    assert Checkpoints(tmp_path / "parts", "b")("one", lambda: make(4))[0] == [4]
    (tmp_path / "parts" / "two.json").mkdir()
    with pytest.raises(PruningError, match=r"two\.json: cannot write"):
        kept("two", lambda: make(5))


def test_the_file_that_counts_is_chosen_before_the_first_loss_and_not_on_what_is_judged():
    def point(seed: int, rate: float, choosing: float, judged: float) -> dict:
        return {
            "seed": seed,
            "rate": rate,
            "accuracy": judged,
            "dense_accuracy": 0.9,
            "choosing_accuracy": choosing,
            "dense_choosing_accuracy": 0.9,
        }

    points = [point(0, 0.9, 0.95, 0.9), point(0, 0.5, 0.9, 0.1), point(0, 0.7, 0.896, 0.2), point(0, 0.8, 0.894, 0.9)]
    assert [p["rate"] for p in compression.best(points)] == [0.7]
    assert compression.best(points[3:]) == []
    both = [*points, *(point(1, p["rate"], 0.9, 0.0) for p in points)]
    assert [p["rate"] for p in compression.best(both)] == [0.9, 0.9]  # 0.3 points in the mean


def test_simplified_norms_give_the_same_outputs_with_half_the_numbers():
    torch.manual_seed(0)
    net = reference.resnet20()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight)
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(compression.simplified(net)(x), net(x), atol=1e-4)


def small_net() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, bias=False),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 8, 3, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 4),
    ).eval()


def test_closed_form_recovery_moves_no_masked_weight_and_every_method_gives_the_rate():
    torch.manual_seed(0)
    net = small_net()
    x = torch.rand(30, 3, 8, 8)
    statistics = splits.curvature(net, x)
    positions = L.positions(net, L.prunable(net), x[:1])
    for method in ("magnitude", "obd", "obd-network", "obs"):
        for rates in ("magnitude", "uniform", "global"):
            curve = series.Series(method, layer_rates=rates, rates=(0.5, 0.75))
            for rate, (model, masks) in zip((0.5, 0.75), series.pruned(net, curve, statistics, positions)):
                assert layout.density(masks) == pytest.approx(1 - rate, abs=0.01)
                resnet20.recalibrate(model, x)
                for name, module in L.prunable(model).items():
                    assert not module.weight[~masks[name]].any()


def test_distillation_starts_from_the_refit_and_lowers_the_loss_under_the_same_masks():
    torch.manual_seed(0)
    net = small_net()
    x = torch.randn(60, 3, 8, 8)
    curve = series.Series("obs", "flexible-nm", "uniform", (0.75,), ("refit",), (0.75,))
    pairs = series.pruned(net, curve, splits.curvature(net, x), {})
    model, masks = next(iter(pairs))
    before = {n: p.clone() for n, p in net.state_dict().items()}
    found = dict(resnet20.recovered(model, net, masks, x, curve.wanted(0.75), 0))
    assert list(found) == ["refit", "distilled"]
    new = torch.randn(200, 3, 8, 8)
    with torch.no_grad():
        wanted = net(new)
        off = {name: float((twin(new) - wanted).square().mean()) for name, twin in found.items()}
    assert off["distilled"] < 0.9 * off["refit"]
    for twin in found.values():
        for name, module in L.prunable(twin).items():
            assert torch.equal(module.weight != 0, masks[name])
    assert all(torch.equal(p, before[n]) for n, p in net.state_dict().items())
    assert curve.wanted(0.5) == ("refit",)


def test_a_curve_has_every_recovery_wanted_and_judges_on_the_other_half():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, bias=False), torch.nn.BatchNorm2d(16), torch.nn.Flatten(), torch.nn.Linear(576, 4)
    ).eval()
    x, new = torch.randn(2, 40, 3, 8, 8)
    with torch.no_grad():
        truth = net(new).argmax(1)
    positions = L.positions(net, L.prunable(net), x[:1])
    split = splits.Split(0, net, x, new, truth, positions, splits.curvature(net, x))
    assert split.judge(net) == 1.0
    wanted = series.Series("obs", "flexible-nm", "uniform", (0.5, 0.75), distilled=(0.75,))
    said: list[str] = []
    points = resnet20.curve(split, wanted, lambda text, part: said.append(text))
    assert [(p["rate"], p["recovery"]) for p in points] == [
        (0.5, "batch norm"),
        (0.5, "refit"),
        (0.75, "batch norm"),
        (0.75, "refit"),
        (0.75, "distilled"),
    ]
    assert points[1]["accuracy"] > 0.5 and points[1]["density"] == pytest.approx(0.5, abs=0.02)
    assert len(said) == 2 and "75.0%" in said[1]
    assert len({s.name for s in series.SERIES}) == len(series.SERIES)  # one part each


def test_shifted_images_are_windows_of_the_padded_ones():
    x = torch.arange(1.0, 1 + 50 * 12).reshape(50, 1, 4, 3)
    moved = imitation.shifted(x, 2, torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(x, moved):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        places = [(i, j) for i in range(5) for j in range(5) if torch.equal(padded[:, i : i + 4, j : j + 3], after)]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) > 15
    assert imitation.shifted(x, 0, torch.Generator()) is x


def test_the_table_puts_recoveries_of_the_same_masks_side_by_side():
    means = [
        {
            "method": "obs",
            "pattern": "flexible-nm",
            "layer_rates": way,
            "recovery": r,
            "rate": 0.9,
            "density": 0.1,
            "cycles_share": share,
            "accuracy": a,
            "spread": None,
        }
        for way, share, r, a in (
            ("magnitude", 0.17, "refit", 0.5),
            ("cycles", 0.1, "refit", 0.4),
            ("magnitude", 0.17, "distilled", 0.6),
        )
    ]
    rows = side_by_side(means)
    assert [(r["layer_rates"], r["packed_cycles"], r["refit"], r["distilled"]) for r in rows] == [
        ("magnitude", 0.17, 0.5, 0.6),
        ("cycles", 0.1, 0.4, None),
    ]
    assert rows[0]["kept"] == 0.1


def test_pictures_are_drawn(tmp_path):
    points = [
        {
            "seed": seed,
            "method": s.method,
            "pattern": s.pattern,
            "rate": rate,
            "layer_rates": s.layer_rates,
            "recovery": r,
            "density": 1 - rate,
            "cycles_share": 0.5,
            "accuracy": 0.8 - 0.1 * rate + 0.01 * seed,
        }
        for seed in range(2)
        for s in series.SERIES
        for rate in s.rates
        for r in s.wanted(rate)
    ]
    result = {"study": "resnet20", "dense_accuracy": 0.8, "means": resnet20.means(points)}
    assert plots.draw(result, tmp_path / "a.png").stat().st_size > 10_000
    row = result["means"][0]
    assert row["accuracy"] == pytest.approx(0.755) and row["spread"] == pytest.approx(0.00707, 1e-2)


def test_a_budget_of_cycles_is_kept_by_the_packed_cycles():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3, bias=False),
        torch.nn.BatchNorm2d(32),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 32, 3, 2, bias=False),
    ).eval()
    x = torch.rand(30, 3, 8, 8)
    positions = L.positions(net, L.prunable(net), x[:1])
    curve = series.Series("obs", "flexible-nm", "cycles", (0.5, 0.75))
    for rate, (_, masks) in zip((0.5, 0.75), series.pruned(net, curve, splits.curvature(net, x), positions)):
        assert series.cycles_share(masks, positions) == pytest.approx(1 - rate, abs=0.03)


def test_corrupted_labels_are_wrong_and_of_the_stated_number():
    labels = torch.arange(200) % 10
    spoilt = digits._spoilt(labels, 0.2, 3)
    assert int((spoilt != labels).sum()) == 40 and spoilt.min() >= 0 and spoilt.max() < 10
    assert torch.equal(digits._spoilt(labels, 0.0, 3), labels)
