# SPDX-License-Identifier: Apache-2.0
"""One point of a sweep: its effect on SLAM, measured, and its cost on the chip, modelled.

Everything but `cost` runs in a worker, on this machine or another: it takes a definition and the reference's
tables, and returns a JSON-able result and the files of the network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam import __version__, resources
from drp_slam.errors import DrpSlamError

if TYPE_CHECKING:
    from drp_slam.chip.constants import Constants
    from drp_slam.config import Config
    from drp_slam.data.sequence import Sequence as Recording
    from drp_slam.datatypes import Frame
    from drp_slam.evaluation.measured import Measured

BASE = "xfeat-fp32"
"""Network from which points are pruned."""


@dataclass(frozen=True)
class Point:
    """A network by name or file, or (`network` empty) one that is pruned first.

    `pairs` and `configurations` are the numbers of frame pairs and perturbed trajectories on which it
    is compared with `reference`; `frames` and `start` bound the sequence.
    """

    sequence: str
    network: str = ""
    rate: float = 0.0
    pattern: str = ""
    saliency: str = ""
    reference: str = BASE
    calibration: str = ""
    camera: str = ""
    start: int = 0
    frames: int = 0
    pairs: int = 100
    configurations: int = 5
    gap_s: float = 0.4

    @property
    def name(self) -> str:
        """Name for display and for the network's file."""
        if self.network:
            return Path(self.network).stem if self.network.endswith(".onnx") else self.network
        return f"oneshot-{self.pattern}-{self.saliency.replace(':', '-')}-p{100 * self.rate:g}"

    def key(self) -> str:
        """Hash of the definition, the tracker's settings, networks, scales and recording: same key,
        same result.

        The chip is not included, since `cost` is computed separately. Raises ResourceError for a
        missing network.
        """
        from drp_slam.card import load_card
        from drp_slam.config import Config

        about = (dataclasses.asdict(self), dataclasses.asdict(Config().slam), __version__)
        content = json.dumps(about, sort_keys=True, default=str)
        digest = hashlib.sha256(content.encode())
        for network in (self.network or BASE, self.reference):
            card = load_card(network)
            digest.update(hashlib.sha256(card.onnx.read_bytes()).digest())
            digest.update(repr((card.dtype, card.input, sorted(card.heads.items()))).encode())
        for folder in (self.sequence, self.calibration):
            digest.update(_fingerprint(folder).encode())
        return digest.hexdigest()[:16]


def _fingerprint(name: str) -> str:
    """Names and sizes of a recording's files, and the content of its lists and calibration."""
    path = Path(name)
    if not name or not path.exists():
        return name
    lines = []
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            text = file.read_text(errors="replace") if file.suffix in (".txt", ".yaml") else ""
            lines.append(f"{file.relative_to(path)} {file.stat().st_size} {text}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Outcome:
    """`result` is JSON-able; `files` has the pruned network, by file name."""

    result: dict[str, Any]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Judge:
    """The recording and the frame pairs on which every point is measured."""

    recording: Recording
    config: Config
    pairs: np.ndarray
    frames: list[Frame]

    @staticmethod
    def of(point: Point) -> Judge:
        """Opens the recording. Raises DataError."""
        from drp_slam.config import Config
        from drp_slam.config.config_file import override
        from drp_slam.data.dataset import open_sequence
        from drp_slam.evaluation.pairs import pairs_apart

        # the devices agree bit for bit; the chip's cost comes from its model below
        config = override(Config(), {"drp.backend": "cpu", "drpai3.backend": "cpu"})
        recording = open_sequence(point.sequence, point.camera or None, point.start, point.frames or None)
        pairs = pairs_apart(recording.stamps_ns, point.gap_s)
        chosen = np.linspace(0, len(pairs) - 1, min(point.pairs, len(pairs))).astype(int)
        pairs = pairs[np.unique(chosen)]
        wanted = set(pairs.ravel().tolist())
        every = point.configurations > 0
        frames = [f for f in recording if every or f.index in wanted]
        return Judge(recording, config, pairs, frames)

    def measured(self, network: str, point: Point, reference: Measured | None) -> Measured:
        """A network on all pairs, and on the perturbed trajectories if there is ground truth."""
        from drp_slam.evaluation import evaluate

        count = point.configurations if self.recording.ground_truth is not None else 0
        return evaluate.measure(
            network,
            self.recording,
            self.frames,
            self.pairs,
            self.config,
            count,
            None if reference is None else reference.uv,
        )


def measure_reference(point: Point) -> Measured:
    """The reference network on the recording of `point`."""
    from drp_slam.offline import one_thread_a_library

    one_thread_a_library()
    return Judge.of(point).measured(point.reference, point, None)


def measure(point: Point, reference: Measured) -> Outcome:
    """Measures the point, after pruning its network unless it names one."""
    from drp_slam.drp.preprocess import network_shape
    from drp_slam.offline import one_thread_a_library

    one_thread_a_library()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="drp_slam-") as folder:
        network, files = point.network, {}
        if not network:
            from drp_slam.evaluation import oneshot

            images = oneshot.calibration_images(Path(point.calibration) if point.calibration else None)
            made = oneshot.prune(point.name, point.rate, point.pattern, point.saliency, images, Path(folder))
            network = str(made)
            files = {f.name: f.read_bytes() for f in (made, made.with_suffix(".yaml"))}
        judge = Judge.of(point)
        result = _judged(point, network, judge, reference)
    camera = judge.recording.camera
    head = {"name": point.name, "point": dataclasses.asdict(point), "shape": network_shape(camera.height, camera.width)}
    return Outcome(head | result | {"wall_s": time.perf_counter() - start}, files)


def _judged(point: Point, network: str, judge: Judge, reference: Measured) -> dict[str, Any]:
    from drp_slam.evaluation import evaluate

    measured = reference
    if network != point.reference:
        measured = judge.measured(network, point, reference)
    held = judge.pairs[:, 0] >= round(len(judge.recording) * (1 - evaluate.KEPT_OUT_PART))
    found = evaluate.summary(measured, reference, held)
    if point.start or point.frames:  # the last quarter of a part is not the held-out one
        found["kept_out"] = None
    return found


def cost(network: str, shape: tuple[int, ...], constants: Constants) -> dict[str, Any]:
    """Size and sparsity of a network, and its modelled cost for tensors of `shape` (H, W).

    `cycles`, `latency_ms` and `energy_mj` are None for a float network: DRP-AI3 computes INT8.
    """
    from drp_slam.card import load_card
    from drp_slam.drpai3.estimate import estimate
    from drp_slam.drpai3.graph import load

    card = load_card(network)
    found: dict[str, Any] = {
        "sparsity": float(card.facts.get("sparsity", {}).get("overall", 0.0)),
        "file_bytes": card.onnx.stat().st_size,
        "dtype": card.dtype,
        "cycles": None,
        "latency_ms": None,
        "energy_mj": None,
    }
    if card.dtype == "int8":
        modelled = estimate(load(card.onnx, {"": (1, 1, *shape)}, in_place=True), constants, results_stay=True)
        found |= {
            "cycles": float(modelled.cycles),
            "latency_ms": modelled.total_s * 1e3,
            "energy_mj": modelled.energy_j * 1e3,
        }
    return found


def shipped() -> list[str]:
    """Names of the networks in `models/` that have a card."""
    names = sorted(p.stem for p in (resources.share() / "models").glob("*.yaml"))
    found = [n for n in names if (resources.share() / "models" / f"{n}.onnx").is_file()]
    if not found:
        raise DrpSlamError("no network is shipped in models/; name networks with --networks")
    return found
