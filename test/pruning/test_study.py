# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from drp_slam.cli import main  # noqa: E402
from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.pruning import deepcompression as dc  # noqa: E402
from drp_slam.pruning import digits, reference, sharing, study  # noqa: E402
from drp_slam.pruning import layers as L  # noqa: E402


def test_halves_have_every_class_once_and_are_mixed():
    labels = torch.arange(10).repeat_interleave(20)
    use, judge = study.halves(labels, 1)
    assert sorted([*use.tolist(), *judge.tolist()]) == list(range(200))
    assert (labels[use].bincount() == 10).all() and (labels[judge].bincount() == 10).all()
    assert len(labels[use][:30].unique()) > 5
    assert not torch.equal(use, study.halves(labels, 2)[0])


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
    untrained = {
        n: sharing.share(w[w != 0], 3 if w.ndim == 4 else 2).codebook for n, w in start.items()
    }
    state, shared = sharing.share_and_train(
        net, (3, 2), lambda tie: digits.train(net, x, y, 5, 0, 1e-3, tie))  # fmt: skip
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
