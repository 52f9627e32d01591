# SPDX-License-Identifier: Apache-2.0
"""A front end is a class in one file: a stub with 32-byte descriptors shows it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam import cli, resources
from drp_slam.chip.soc import Meter
from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.datatypes import Camera, DescriptorSpec, Features, Frame
from drp_slam.device import open_device, stage_run
from drp_slam.drp.kernels import Kernel
from drp_slam.drp.opencva import OpenCva
from drp_slam.errors import ConfigError, DeviceError, ResourceError
from drp_slam.frontend import front_end
from drp_slam.frontend.front_end import FrontEnd, Stage, front_end_class, open_front_end
from drp_slam.frontend.modelled import open_soc
from drp_slam.frontend.xfeat import XFeat
from drp_slam.nodes.table import nodes, stage_nodes
from drp_slam.pipeline import TRACK, stages
from drp_slam.profiler.span import make_span
from drp_slam.reporting import folder

CAMERA = Camera(96, 64, 80.0, 80.0, 48.0, 32.0)
FRAME = Frame(0, 1, np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8), CAMERA)


class BlockBits(Kernel):
    """(H, W) uint8 -> (n, 2) pixels of corners and (n, 32) uint8: pixels brighter than their corner."""

    name, place, kind = "block-bits", "custom", "gather"

    def compute(self, *inputs):
        corners = cv2.goodFeaturesToTrack(inputs[0][8:-8, 8:-8], 50, 0.01, 3)
        pixels = np.rint(corners[:, 0]).astype(int) + 8
        patches = np.stack([inputs[0][y - 8 : y + 8, x - 8 : x + 8] for x, y in pixels])
        bits = patches.reshape(len(pixels), 256) > inputs[0][pixels[:, 1], pixels[:, 0], None]
        return pixels, np.packbits(bits, axis=1)

    def empty(self, *inputs):
        return np.zeros((0, 2), int), np.zeros((0, 32), np.uint8)

    def counters(self, *inputs):
        return {"pixels": inputs[0].size, "ops": 10 * inputs[0].size, "bytes": inputs[0].size}


class Blocks(FrontEnd):
    """Two stages, one on the DRP and one on the CPU, and no network."""

    stages = (Stage("smooth", "drp"), Stage("extract", "cpu"))
    descriptor = DescriptorSpec(32, "uint8", "hamming")

    def __init__(self, config, units=front_end.UNITS):
        self._drp, self._cpu = open_device(config.drp.backend, "drp"), open_device("cpu", "cpu")

    def step(self, stage, data, shape_hw):
        if stage == "smooth":
            run = self._drp.run(OpenCva("GaussianBlur", ksize=(3, 3)), data if data.ndim == 2 else data[..., 1].copy())
            return run.outputs[0], stage_run(stage, "drp", [run])
        run = self._cpu.run(BlockBits(), data)
        pixels, bits = run.outputs
        features = Features(pixels.astype(np.float32), np.ones(len(pixels), np.float32), bits)
        return features, stage_run(stage, "cpu", [run])


BLOCKS = f"{__name__}:Blocks"


def test_the_stub_gives_features_with_the_work_of_its_stages() -> None:
    blocks = override(Config(), {"features": BLOCKS})
    front = open_front_end(blocks)
    features, runs = front(FRAME)
    assert features.descriptor.dtype == front.descriptor.dtype and features.descriptor.shape[1] == 32
    assert [(r.stage, r.unit) for r in runs] == [(s.name, s.unit) for s in front.stages]
    meter = Meter(open_soc(blocks, [s.unit for s in front.stages]))
    spans = [make_span(0, 1, run, meter) for run in runs]
    assert [s.device for s in spans] == ["emulated:rzv2h", "cpu"]
    assert all(s.modelled_s > 0 and s.energy_j > 0 and s.cpu_modelled_s > 0 for s in spans)
    assert [s.name for s in stages(BLOCKS)] == ["smooth", "extract", TRACK.name]


def test_the_stub_runs_a_recording(wall: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its stages, kernels and descriptors, through `run` to the report; nothing else knows of it."""
    assert cli.main(["run", str(wall), "--features", BLOCKS, "--out", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["features"], report["network"]) == (BLOCKS, None)
    assert list(report["stages"]) == ["smooth", "extract", "track"]
    assert [k["kernel"] for k in report["kernels"]] == ["GaussianBlur", "block-bits"]
    assert report["tracked"] > 2 and report["comparison"]["modelled_a55"]["chip_ms"] > 0
    assert set(report["schedule"]["in_flight"]["3"]["utilisation"]) == {"DRP1", "DRP0", "DRP-AI3", "CPU"}


def test_the_graph_has_a_node_for_each_unit_of_the_front_end() -> None:
    assert stage_nodes("xfeat") == ("drp_node", "perception_node", "pose_node")
    assert stage_nodes(BLOCKS) == ("drp_node", "pose_node")
    searching = nodes(override(Config(), {"features": BLOCKS, "drpai3.detector": "x.onnx"}), player=False)
    assert [n.name for n in searching] == ["profiler_node", "drp_node", "pose_node", "perception_node"]


def test_stages_run_one_by_one_as_the_nodes_run_them() -> None:
    """What the pipeline does in one call, drp_node and perception_node do in three."""
    config = Config()
    height, width = FRAME.image.shape[:2]
    features, _ = open_front_end(config)(FRAME)
    drp, accelerator = open_front_end(config, ("drp", "cpu")), open_front_end(config, ("drpai3",))
    assert drp.accelerator is None and accelerator.accelerator is not None
    tensor, before, first = drp.part(FRAME.image, (height, width), 0, ("drp", "cpu"))
    heads, network, after = accelerator.part(tensor, (0, 0), first, ("drpai3",))
    apart, behind, end = drp.part(heads, (height, width), after, ("drp", "cpu"))
    assert [r.stage for r in (*before, *network, *behind)] == [s.name for s in XFeat.stages] and end == 3
    np.testing.assert_array_equal(apart.descriptor, features.descriptor)
    np.testing.assert_array_equal(apart.uv, features.uv)


def test_an_unknown_front_end_lists_the_known_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for wrong, message in (
        ("surf", "'surf' are unknown; choose from xfeat"),
        ("no_such_module:Surf", "cannot be imported: No module"),
        (f"{__name__}:Surf", "cannot be imported: .*'Surf'"),
        (f"{__name__}:BlockBits", "are not a .*FrontEnd"),
    ):
        with pytest.raises(ConfigError, match=message):
            front_end_class(wrong)
    assert cli.main(["run", "synthetic", "--frames", "2", "--features", "surf", "--out", str(tmp_path)]) == 1
    assert "features 'surf' are unknown" in capsys.readouterr().err


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    """The chip under another name, twice as fast on its CPU."""
    text = resources.device_file("rzv2h").read_text()
    assert "float_rate: {value: 1.44e+10" in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("float_rate: {value: 1.44e+10", "float_rate: {value: 2.88e+10"))
    return path


def test_another_chip_is_one_file(wall: Path, chip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through `run`, `report` and `estimate`; a run is priced for another chip as if it had run there."""
    own, other, priced = tmp_path / "own", tmp_path / "other", tmp_path / "priced"
    reports = []
    for argv in (
        ["run", str(wall), "--out", str(own)],
        ["run", str(wall), "--out", str(other), "--device", str(chip)],
        ["report", str(own), "--out", str(priced), "--device", str(chip)],
        ["report", str(other), "--out", str(priced), "--device", "rzv2h"],
    ):
        assert cli.main([*argv, "--json"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    ours, theirs, repriced, back = ({k: r[k] for k in ("kernels", "schedule", "assumptions")} for r in reports)
    assert repriced == theirs and ours == back != theirs
    costs = [r["comparison"]["modelled_a55"] for r in reports]
    assert costs[2] == costs[1] != costs[0] == costs[3]
    assert reports[1]["stages"]["track"]["device"] == "cpu"
    assert reports[1]["stages"]["network"]["device"] == "emulated:mine"
    assert reports[1]["stages"]["track"]["modelled_ms"]["p50"] < reports[0]["stages"]["track"]["modelled_ms"]["p50"]
    assert reports[1]["trajectory_sha256"] == reports[0]["trajectory_sha256"]
    assert folder.read_json(other / folder.RUN)["device"] == str(chip)
    assert cli.main(["estimate", "xfeat", "--input-shape", "1,1,64,96", "--device", str(chip), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "emulated:mine"


def test_without_a_drp_a_chip_prices_the_rest(wall: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(["run", str(wall), "--frames", "3", "--device", "rzv2l", "--out", str(out)]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("drp_slam run:")]
    assert "'rzv2l' cannot model work of drp" in line
    assert not (out / folder.TRAJECTORY).exists()
    assert cli.main(["run", str(wall), "--frames", "3", "--out", str(out), "--json"]) == 0
    capsys.readouterr()
    assert cli.main(["report", str(out), "--device", "rzv2l", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["stages"]["preprocess"]["modelled_ms"] is None and report["kernels"] is None
    assert report["stages"]["network"]["modelled_ms"]["p50"] > 0 and report["comparison"]["modelled_a55"] is None
    (out / folder.KERNELS).unlink()
    assert cli.main(["report", str(out), "--device", "rzv2n"]) == 1
    assert "no kernels.csv" in capsys.readouterr().err


def test_a_shipped_network_is_found_after_a_move() -> None:
    """`kernels.csv` names the file of the machine that ran it."""
    heads = open_front_end(Config(), ("drpai3",)).step("network", np.zeros((64, 96), np.int8), (64, 96))[1].works[0]
    here = open_soc(Config()).cost(heads)
    assert open_soc(Config()).cost(dataclasses.replace(heads, configuration="/gone/xfeat-p70.onnx")) == here
    with pytest.raises(ResourceError, match="'mine' is neither a file nor shipped"):
        open_soc(Config()).cost(dataclasses.replace(heads, name="mine", configuration="/gone/mine.onnx"))


def test_a_device_that_nothing_is_modelled_for_does_not_need_one() -> None:
    """Backend cpu needs the CPU's constants only."""
    config = override(Config(), {"device": "rzv2l", "drp.backend": "cpu", "drpai3.backend": "cpu"})
    open_soc(config, ("drp", "drpai3"))
    with pytest.raises(DeviceError, match="work of drp"):
        open_soc(override(config, {"drp.backend": "emulated"}), ("drp", "drpai3"))
