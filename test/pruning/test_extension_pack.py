# SPDX-License-Identifier: Apache-2.0
"""The flows of Renesas' public how-to scripts (renesas-rz/rzv_drp-ai_tvm, pruning/how-to) on small stand-ins.

Calls, their order and their arguments are those of the scripts; only the import differs.
"""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from drp_slam.errors import PruningError  # noqa: E402
from drp_slam.pruning.extension_pack import (  # noqa: E402
    Pruner,
    deepcopy_model,
    get_model_info,
    load_pruned_state_dict,
    make_pruning_layer_list,
)

RATE = 0.7
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(4) % 3


def zeros(state: dict, layers: list[str]) -> float:
    weights = [state[f"{name}.weight"] for name in layers]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, 2, 1, bias=False)
        self.depthwise = nn.Conv2d(64, 64, 3, 1, 1, groups=64)
        self.fc = nn.Linear(64, 3)

    def forward(self, x):
        x = self.depthwise(self.conv2(self.bn1(self.conv1(x)).relu()).relu())
        return self.fc(x.mean((2, 3)))


class Detector(nn.Module):
    """Takes targets in training and gives a loss then, as YOLOX does."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.SiLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.SiLU())
        self.head = nn.Conv2d(32, 8, 1)

    def forward(self, x, targets=None):
        found = self.head(self.backbone(x))
        if not self.training:
            return found
        assert targets is not None
        return {"total_loss": (found.mean((2, 3)) - targets).square().mean()}


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 8, 8)
        self.qkv, self.proj = nn.Linear(48, 144), nn.Linear(48, 48)
        self.mlp = nn.Sequential(nn.Linear(48, 96), nn.GELU(), nn.Linear(96, 48))
        self.head = nn.Linear(48, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).chunk(3, -1)
        x = x + self.proj(nn.functional.scaled_dot_product_attention(q, k, v))
        return self.head((x + self.mlp(x)).mean(1))


def train_one_epoch(model, optimizer, pruner, batches=3):
    model.train()
    for _ in range(batches):
        if pruner:
            pruner.update()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(IMAGES), LABELS).backward()
        optimizer.step()


def test_torchvision_resnet50_retrain_then_resume(tmp_path):
    """retrain_with_pruning.py: dense checkpoint with its optimizer, one-shot, then --is_pruned_weight."""
    torch.manual_seed(0)
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    train_one_epoch(model, optimizer, None)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "dense.pth")

    checkpoint = torch.load(tmp_path / "dense.pth", map_location="cpu")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    pruning_layer_list = make_pruning_layer_list(model, input_data=[IMAGES])
    pruner = Pruner(model, pruning_layer_list=pruning_layer_list, final_pr=RATE)
    info = get_model_info(model, input_data=[IMAGES])  # right after Pruner(): already pruned
    assert pruning_layer_list == ["conv1", "conv2", "fc"]
    assert info["pruning_rate"] == pytest.approx(RATE, abs=0.05) and "conv2" in str(info)
    for _ in range(2):
        train_one_epoch(model, optimizer, pruner)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "model_89.pth")
    stored = torch.load(tmp_path / "model_89.pth")["model"]
    assert set(stored) == set(Classifier().state_dict()), "the names of a state stay those of the model"
    assert zeros(stored, pruning_layer_list) == pytest.approx(pruner.rate, abs=1e-6)

    again = Classifier()
    optimizer = torch.optim.SGD(again.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    pruning_layer_list = make_pruning_layer_list(again, input_data=[IMAGES])
    _ = Pruner(again, pruning_layer_list=pruning_layer_list, final_pr=0.0)
    checkpoint = torch.load(tmp_path / "model_89.pth", map_location="cpu")
    again.load_state_dict(checkpoint["model"])
    resumed = get_model_info(again, input_data=[IMAGES])["pruning_rate"]
    assert resumed == pytest.approx(info["pruning_rate"], abs=1e-6)
    optimizer.load_state_dict(checkpoint["optimizer"])
    pruner = Pruner(again, pruning_layer_list=pruning_layer_list, final_pr=RATE)
    train_one_epoch(again, optimizer, pruner)
    assert zeros(again.state_dict(), pruning_layer_list) == pytest.approx(RATE, abs=0.05)
    x = torch.rand(1, 3, 32, 32)
    torch.onnx.export(again.eval(), (x,), str(tmp_path / "pruned_model.onnx"), dynamo=False)  # torch2onnx.py
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper

    weights = [numpy_helper.to_array(w) for w in onnx.load(tmp_path / "pruned_model.onnx").graph.initializer]
    assert sum(int((w == 0).sum()) for w in weights if w.ndim > 1) > 0.6 * sum(w.size for w in weights if w.ndim > 1)


class PrunedModelEMA:
    def __init__(self, model, decay=0.9998):
        self.ema = deepcopy_model(model).eval()
        self.updates, self.decay = 0, lambda x: decay * (1 - math.exp(-x / 2000))
        for p in self.ema.parameters():
            p.requires_grad_(False)

    def update(self, model):
        self.updates += 1
        d = self.decay(self.updates)
        state = model.state_dict()
        with torch.no_grad():
            for k, v in self.ema.state_dict().items():
                if v.dtype.is_floating_point:
                    v *= d
                    v += (1.0 - d) * state[k].detach()


def test_megvii_yolox_with_targets_an_average_and_resume():
    """yolox_voc_s_pruning_conf.py and eval_with_pruned_model.py."""
    torch.manual_seed(0)
    model, targets = Detector(), torch.rand(4, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    data = {"x": IMAGES, "targets": targets}
    pruning_layer_list = make_pruning_layer_list(model, input_data=data)
    pruner = Pruner(model, pruning_layer_list=pruning_layer_list, final_pr=RATE)
    assert get_model_info(model, input_data=data)["pruning_rate"] == pytest.approx(RATE, abs=0.05)
    ema = PrunedModelEMA(model)
    assert model.training
    for _ in range(4):
        pruner.update()
        optimizer.zero_grad()
        model(IMAGES, targets)["total_loss"].backward()
        optimizer.step()
        ema.update(model)
    ckpt = {"model": ema.ema.state_dict(), "optimizer": optimizer.state_dict()}
    assert zeros(ckpt["model"], pruning_layer_list) == pytest.approx(pruner.rate, abs=1e-6)

    resumed = Detector()
    load_pruned_state_dict(resumed, ckpt["model"])
    info = get_model_info(resumed, [(1, 3, 32, 32)])  # a shape in the place of data
    assert info["pruning_rate"] == pytest.approx(pruner.rate, abs=1e-6)
    optimizer = torch.optim.SGD(resumed.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    optimizer.load_state_dict(ckpt["optimizer"])
    pruner = Pruner(resumed, pruning_layer_list=make_pruning_layer_list(resumed, input_data=data), final_pr=RATE)
    for _ in range(2):
        pruner.update()
        optimizer.zero_grad()
        resumed(IMAGES, targets)["total_loss"].backward()
        optimizer.step()
    assert zeros(resumed.state_dict(), pruning_layer_list) == pytest.approx(RATE, abs=0.05)


def test_huggingface_vit_by_input_size_with_accumulation_gradually():
    """retrain_with_pruning.py of the transformer: `input_size=`, AdamW, gradients over several batches."""
    torch.manual_seed(0)
    model, input_size = Transformer(), [(5, 3, 32, 32)]
    pruning_layer_list = make_pruning_layer_list(model, input_size=input_size)
    assert pruning_layer_list == ["patches", "qkv", "proj", "mlp.0", "mlp.2", "head"]
    _ = Pruner(model, pruning_layer_list=pruning_layer_list, final_pr=0.0)
    pruner = Pruner(model, pruning_layer_list, final_pr=RATE, schedule_name="agp", steps=6)
    assert get_model_info(model, input_size=input_size)["pruning_rate"] == 0.0  # gradual: nothing is due yet
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    rates = []
    for batch in range(8):
        rates.append(pruner.update())
        nn.functional.cross_entropy(model(IMAGES), LABELS).backward()
        if batch % 2:
            optimizer.step()
            optimizer.zero_grad()
    assert rates == sorted(rates) and rates[0] < 0.4 < rates[-1]
    assert zeros(model.state_dict(), pruning_layer_list) == pytest.approx(pruner.rate, abs=1e-6)


class Segmenter(nn.Module):
    """Takes what mmseg's pipeline gives: an image, metadata that is no tensor, and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 5, 1)

    def forward(self, img, img_metas, gt_semantic_seg=None):
        assert img_metas[0]["scale_factor"] == 1.0
        return self.head(self.stem(img).relu())


def test_hustvl_topformer_hook():
    """pruning_hook.py: `input_data` as a dict with metadata, update before each iteration."""
    model = Segmenter()
    segments = torch.zeros(1, 1, 32, 32, dtype=torch.long)
    data = {"img": IMAGES[:1], "img_metas": [{"scale_factor": 1.0}], "gt_semantic_seg": segments}
    pruner = Pruner(model, pruning_layer_list=make_pruning_layer_list(model, input_data=data), final_pr=RATE)
    assert get_model_info(model, input_data=data)["pruning_rate"] == pytest.approx(pruner.rate)


def test_without_data_and_size_it_is_refused():
    with pytest.raises(PruningError, match=r"give input_data \(tensors\) or input_size"):
        make_pruning_layer_list(Classifier())
    with pytest.raises(PruningError, match="cannot be run on an input of shape"):
        make_pruning_layer_list(Classifier(), input_size=[(1, 5, 32, 32)])
