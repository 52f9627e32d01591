# SPDX-License-Identifier: Apache-2.0
"""Command lines of the documentation, run in the order of their page on small stand-ins."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_docs import PAGES, ROOT, command_lines

from drp_slam import cli

SEQUENCE = "synthetic:frames=8,width=192"
STAND_INS = {
    **dict.fromkeys(("SEQUENCE", "SEQ", "SEQ2", "RECORDING", "ANOTHER", "my_bag", "synthetic"), SEQUENCE),
    **dict.fromkeys(("MODEL.onnx", "NETWORK.onnx", "model.onnx", "FastestDet.onnx"), "net.onnx"),
    **dict.fromkeys(("folder/", "FOLDER"), "."),
    **dict.fromkeys(("images/", "DIR", "IMAGES"), "images"),
    "pruned/NETWORK-p50.onnx": "pruned/net-p50.onnx",
    "pruned/NETWORK-p50-int8.onnx": "pruned/net-p50-int8.onnx",
    "1,1,480,640": "1,1,64,96",
}
"""What stands for a word of the documentation."""
HERE = ("run", "report", "doctor", "estimate", "compare-networks", "board-kit")
"""Commands that are run here, and `prune` on the page of networks of one's own."""
NEEDS = ("--detector", "--live", "pruned/FastestDet", "room.map --localise")
"""Lines that are not: a detector's file or a camera is needed."""
ELSEWHERE = {
    "up": "nodes/test_system_up.py",
    "play": "nodes/test_system_robot.py",
    "bench": "commands/test_robustness.py",
    "study": "pruning/test_study.py",
    "validate-device": "drpai3/test_validate.py",
    "fit-device": "drpai3/test_validate.py",
    "compare": "evaluation/test_compare.py",
    "figures": "evaluation/test_article.py",
    "sweep": "test_sweep.py",
    "advise": "sweep/test_advice.py",
    "evaluate": "test_evaluate.py",
    "compare-detectors": "test_boxes.py",
    "board-compare": "drpai3/test_board.py",
    "prune": "pruning/test_prune_command.py",
}
"""Commands that other tests run."""
TOO_LONG = ("rebuild",)
"""Needs recordings and 18 minutes."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a small network of two convolutions and two images."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    weights = [random.normal(size=(32, cin, 3, 3)).astype(np.float32) for cin in (3, 32)]
    names = ["input", "hidden", "output"]
    nodes = [
        helper.make_node("Conv", [names[k], f"w{k}"], [names[k + 1]], name=f"conv{k}", pads=[1] * 4) for k in range(2)
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, c, 32, 32)) for n, c in (("input", 3), ("output", 32))
    ]
    held = [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "net.onnx")
    Path("images").mkdir()
    for k in range(2):
        cv2.imwrite(f"images/{k}.png", random.integers(0, 255, (32, 32, 3), np.uint8))
    yield tmp_path


def lines(page: Path) -> list[list[str]]:
    """The command lines of a page that are run here."""
    found = [
        words
        for words in command_lines(page)
        if page.name != "CHANGELOG.md"
        and (words[0] in HERE or (words[0] == "prune" and page.name == "your-network.md"))
        and not any(need in shlex.join(words) for need in NEEDS)
    ]
    return found


def stood(words: list[str]) -> tuple[str, ...]:
    """A command line with stand-ins; `DIR` is a recording for some commands, a folder of images for others."""
    replaced = [STAND_INS.get(word, word) for word in words]
    return (words[0], SEQUENCE, *replaced[2:]) if words[0] in ("run", "doctor") else tuple(replaced)


@pytest.mark.parametrize("page", [p for p in PAGES if lines(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_command_lines_run(page: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if page.name == "your-network.md":
        pytest.importorskip("torch")
    for words in dict.fromkeys(stood(words) for words in lines(page)):
        assert cli.main(words) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"


def test_every_command_of_the_documentation_is_run() -> None:
    used = {words[0] for page in PAGES for words in command_lines(page)}
    assert used <= {*HERE, *ELSEWHERE, *TOO_LONG}
    for name, path in ELSEWHERE.items():
        text = (ROOT / "test" / path).read_text()
        assert f'"{name}"' in text or f"import {name}" in text or f", {name}" in text, f"{path} does not run {name}"
