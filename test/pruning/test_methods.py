# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from drp_slam.commands import prune, sweep  # noqa: E402
from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.evaluation import oneshot  # noqa: E402
from drp_slam.pruning import importance, methods  # noqa: E402
from drp_slam.pruning import prunable as L  # noqa: E402
from drp_slam.pruning.pruner import Pruner  # noqa: E402
from drp_slam.sweep import sweep_figures  # noqa: E402


def test_the_table_is_read_without_torch():
    code = "import sys; import drp_slam.pruning.methods; print(*{'torch', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


SIGNED = methods.Saliency("signed", lambda layer: (layer.weights + 10.0).clamp_min(0.0))
"""A saliency from outside the package, which keeps the largest signed weights."""


def test_a_saliency_of_ones_own_needs_no_change(tmp_path):
    """Command line, pruner, sweep and figures take it; `prune` keeps the weights that it scores highest."""
    stub = f"{__name__}:SIGNED"
    parser = argparse.ArgumentParser()
    prune.add_arguments(parser)
    assert parser.parse_args(["x.onnx", "--rate", "0.5", "--saliency", stub]).saliency == stub

    parser = argparse.ArgumentParser()
    sweep.add_arguments(parser)
    args = parser.parse_args(["--sequence", "synthetic", "--rates", "0.5", "--saliencies", f"magnitude,{stub}"])
    assert [p.saliency for p in sweep.plan(args)[1:]] == ["magnitude", stub]
    rows = [{"point": {"network": "", "pattern": "flexible-nm", "saliency": s}} for s in ("magnitude", stub)]
    assert len(sweep_figures._styles(rows)) == 2

    conv = nn.Conv2d(16, 32, 1, bias=False)
    net = nn.Sequential(conv)
    dense = conv.weight.detach().clone()
    Pruner(net, final_pr=0.5, pattern="unstructured", saliency=stub).update()
    kept = conv.weight.detach() != 0
    assert dense[kept].min() >= dense[~kept].max()

    images = [np.random.default_rng(0).standard_normal((1, 1, 256, 320)).astype(np.float32)]
    for wrong in ("signed", "no_such_module:SIGNED", f"{__name__}:absent", f"{__name__}:np"):
        with pytest.raises(PruningError, match="saliency"):
            methods.saliency(wrong)

    path = oneshot.prune("stub", 0.5, "unstructured", stub, images, tmp_path)
    assert path.is_file() and path.with_suffix(".yaml").is_file()


@pytest.mark.parametrize("name", list(methods.SALIENCIES))
def test_a_saliency_declares_what_it_needs(name):
    """Fields of the statistics that `needs` does not name are never read."""
    entry = methods.SALIENCIES[name]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    layers = L.prunable(net)
    whole = importance.collect(net, layers, torch.rand(4, 3, 8, 8))
    fields = ("inputs", "outputs", "diagonal", "first")
    for statistics in whole.values():
        for field in set(fields) - set(entry.needs):
            setattr(statistics, field, None)
    found = importance.saliencies(name, layers, whole)
    assert all(torch.isfinite(v).all() and (v >= 0).all() for v in found.values())
    assert entry.needs_images == bool(entry.needs or entry.decays)
