# SPDX-License-Identifier: Apache-2.0
"""`python -m drp_slam evaluate A B ...`: networks against the first, as SLAM feels it.

On all pairs of frames 0.4 s apart: PnP inliers, keypoint overlap with the first network, relative
pose error. With `--ate`: the trajectory error over perturbed configurations (start frame and
keyframe threshold), because one trajectory proves little. Every mean has a 95 % bootstrap
interval; ratios to the first network are of the same pairs. The last quarter of the sequence,
which no shipped network was trained or calibrated on, is reported separately.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam import resources
from drp_slam.errors import DataError, DrpSlamError

if TYPE_CHECKING:
    from drp_slam.config import Config
    from drp_slam.data.sequence import Sequence as Recording
    from drp_slam.datatypes import Features, Frame

KEPT_OUT_PART, RESAMPLES, LOST_ATE_M = 0.25, 2000, 1.0
THRESHOLDS = (0.55, 0.6, 0.65, 0.7, 0.75)
"""Keyframe ratios of the perturbed configurations."""
METRICS = ("inliers", "matches", "overlap", "error_m", "error_deg")


@dataclass(frozen=True)
class Measured:
    """One network on one sequence. `table` (N, len(METRICS)), a row a pair; `paths` (C, 2) ATE in
    metres and part of the frames tracked, a row a configuration; `uv` keypoints by frame."""

    table: np.ndarray
    paths: np.ndarray
    uv: dict[int, np.ndarray]


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Handler of `evaluate`. With `--out`, what was measured is kept there, never done again."""
    import json

    from drp_slam.cli import out_folder
    from drp_slam.config import load
    from drp_slam.data.dataset import open_sequence

    recording = open_sequence(args.sequence, args.camera)
    out = out_folder(args) if args.out else None
    result = compare(
        list(dict.fromkeys(args.networks)), recording, load(args.config), gap_s=args.gap,
        limit=args.pairs, configurations=args.configurations if args.ate else 0, keep=out,
    )  # fmt: skip
    if out is not None:
        part = out / "evaluate.json.part"
        part.write_text(json.dumps(result, indent=1))
        part.replace(out / "evaluate.json")
    if args.card:
        result["cards"] = [str(write_agreement(n, result)) for n in args.networks]
    return result


def compare(networks: Sequence[str], recording: Recording, config: Config, *, gap_s: float = 0.4,
            limit: int | None = None, configurations: int = 0,
            keep: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """All networks on all pairs; JSON-able. `limit` takes that many pairs, evenly."""
    from drp_slam.pairs import pairs_apart

    if not networks:
        raise DrpSlamError("no network to evaluate; name at least one, the reference first")
    pairs = pairs_apart(recording.stamps_ns, gap_s)
    if limit is not None:
        pairs = pairs[np.unique(np.linspace(0, len(pairs) - 1, max(1, limit)).astype(int))]
    wanted = set(range(len(recording))) if configurations else {int(i) for i in pairs.ravel()}
    frames: list[Frame] = []
    found: dict[str, Measured] = {}
    for name in networks:
        path = (
            keep / _key(name, networks[0], recording, pairs, configurations, config)
            if keep
            else None
        )
        if path is not None and path.is_file():
            found[name] = _load(path)
            continue
        frames = frames or [f for f in recording if f.index in wanted]
        reference = found[networks[0]].uv if found else None
        found[name] = measure(name, recording, frames, pairs, config, configurations, reference)
        if path is not None:
            _store(found[name], path)
    held = pairs[:, 0] >= round(len(recording) * (1 - KEPT_OUT_PART))
    return {
        "sequence": recording.name, "gap_s": gap_s, "pairs": len(pairs),
        "pairs_kept_out": int(held.sum()), "configurations": configurations,
        "reference": networks[0],
        "networks": {n: summary(found[n], found[networks[0]], held) | facts(n) for n in networks},
    }  # fmt: skip


def _key(name: str, reference: str, recording: Recording, pairs: np.ndarray, configurations: int,
         config: Config) -> str:  # fmt: skip
    """A file name that changes with anything that decides the measurement."""
    digest = hashlib.sha256()
    for part in (name, reference):
        digest.update(resources.network(part).read_bytes())
    slam = {k: v for k, v in dataclasses.asdict(config.slam).items()
            if configurations or k.startswith("depth_")}  # fmt: skip
    drp = (config.drp.top_k, config.drp.threshold, config.drp.nms_px)
    about = (recording.name, configurations, drp, slam, THRESHOLDS)
    digest.update(repr(about).encode() + recording.stamps_ns.tobytes() + pairs.tobytes())
    return f"{Path(name).stem}-{digest.hexdigest()[:12]}.npz"


def _store(measured: Measured, path: Path) -> None:
    part = path.with_name(path.name + ".part.npz")
    np.savez(part, table=measured.table, paths=measured.paths, frames=np.array(list(measured.uv)),
             sizes=[len(uv) for uv in measured.uv.values()],
             uv=np.concatenate(list(measured.uv.values())))  # fmt: skip
    part.replace(path)


def _load(path: Path) -> Measured:
    with np.load(path) as stored:
        parts = np.split(stored["uv"], np.cumsum(stored["sizes"])[:-1])
        return Measured(stored["table"], stored["paths"],
                        dict(zip(stored["frames"].tolist(), parts)))  # fmt: skip


def facts(name: str) -> dict[str, Any]:
    """Sparsity and size, from card and file."""
    from drp_slam.card import load_card

    card = load_card(name)
    return {"sparsity": float(card.facts.get("sparsity", {}).get("overall", 0.0)),
            "bytes": card.onnx.stat().st_size}  # fmt: skip


def extract(name: str, frames: Iterable[Frame], config: Config) -> dict[int, Features]:
    """Features of each frame: the first three stages of the pipeline."""
    from drp_slam.card import load_card
    from drp_slam.data.progress import track
    from drp_slam.drp.postprocess import Postprocess
    from drp_slam.drp.preprocess import Preprocess
    from drp_slam.drpai3.perceive import Perceive, open_device
    from drp_slam.pipeline import drp_device

    card = load_card(name)
    drp = drp_device(config.drp.backend, config.drp.device)
    preprocess, postprocess = Preprocess(drp, card, config.drp), Postprocess(drp, card, config.drp)
    perceive = Perceive(open_device(config.drpai3), card, config.drpai3)
    found = {}
    frames = list(frames)
    for frame in track(frames, len(frames), name):
        heads, _ = perceive(preprocess(frame.image)[0])
        found[frame.index], _ = postprocess(heads, frame.image.shape[:2])
    return found


def measure(name: str, recording: Recording, frames: Sequence[Frame], pairs: np.ndarray,
            config: Config, configurations: int, reference: Mapping[int, np.ndarray] | None
            ) -> Measured:  # fmt: skip
    """One network: pairs, then trajectories. `reference` is the first network's keypoints."""
    from drp_slam.data.progress import track
    from drp_slam.pairs import interpolated, judge, overlap, view_of

    camera, truth = recording.camera, None
    if recording.ground_truth is not None:
        truth = interpolated(recording.ground_truth, recording.stamps_ns)
    features = extract(name, frames, config)
    uv = {index: f.uv for index, f in features.items()}
    views = {f.index: view_of(camera, config.slam, f, features[f.index]) for f in frames}
    rows = []
    for first, second in track(pairs.tolist(), len(pairs), f"{name}: pairs"):
        T = None
        if truth is not None and np.isfinite(truth[[first, second]]).all():
            T = np.linalg.inv(truth[second]) @ truth[first]
        r = judge(views[first], views[second], (camera.fx + camera.fy) / 2, T)
        shared = overlap(uv[first], (reference or uv)[first])
        rows.append((r.inliers, r.matches, shared, r.error_m, r.error_deg))
    paths = np.zeros((0, 2))
    if configurations:
        paths = trajectories(recording, frames, features, config, configurations, name)
    return Measured(np.array(rows, np.float64), paths, uv)


def trajectories(recording: Recording, frames: Sequence[Frame], features: Mapping[int, Features],
                 config: Config, count: int, name: str) -> np.ndarray:  # fmt: skip
    """(count, 2): ATE in metres and frames tracked (part) of perturbed configurations.

    Configuration k starts 7 k frames later with keyframe ratio k of THRESHOLDS. A run that tracks
    fewer than 3 frames counts as 1 m.
    """
    from drp_slam.data.progress import track
    from drp_slam.data.trajectory import ate
    from drp_slam.slam.tracker import Tracker

    if recording.ground_truth is None:
        raise DataError(f"{recording.name} has no ground truth; evaluate it without --ate")
    rows = []
    for k in track(range(count), count, f"{name}: trajectories"):
        ratio = THRESHOLDS[k % len(THRESHOLDS)]
        tracker = Tracker(recording.camera, dataclasses.replace(config.slam, keyframe_ratio=ratio))
        start = min(7 * k, len(frames) // 2)
        tracked = 0
        for frame in frames[start:]:
            seen = features[frame.index]
            tracked += tracker.track(frame.index, frame.stamp_ns, seen, frame.depth,
                                     frame.depth_unit_m, frame.image).tracked  # fmt: skip
        tracker.finish()
        path = tracker.trajectory()
        error = ate(path, recording.ground_truth).rmse_m if len(path) >= 3 else LOST_ATE_M
        rows.append((error, tracked / len(frames[start:])))
    return np.array(rows)


def summary(measured: Measured, reference: Measured, held: np.ndarray) -> dict[str, Any]:
    """Means, intervals and ratios: all pairs, the kept-out quarter, trajectories."""
    every = np.ones(len(held), bool)
    found: dict[str, Any] = {
        part: {m: estimate(measured.table[rows, i], reference.table[rows, i])
               for i, m in enumerate(METRICS)} if rows.any() else None
        for part, rows in (("all", every), ("kept_out", held))
    }  # fmt: skip
    found["failed_pairs"] = int((measured.table[:, 0] == 0).sum())
    if len(measured.paths):
        found["ate_m"] = estimate(measured.paths[:, 0], reference.paths[:, 0])
        found["tracked"] = float(measured.paths[:, 1].mean())
    return found


def estimate(values: np.ndarray, reference: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Mean with its 95 % bootstrap interval; ratio of means to `reference`, item by item, with its.

    Items that are NaN in either (no pose found) are left out of both. None where nothing is left.
    """
    good = np.isfinite(values) & np.isfinite(reference)
    values, reference = values[good], reference[good]
    if not len(values):
        return {"mean": None, "low": None, "high": None, "ratio": None, "ratio_low": None,
                "ratio_high": None, "count": 0}  # fmt: skip
    picks = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    means, base = values[picks].mean(1), reference[picks].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    found = {"mean": float(values.mean()), "low": float(low), "high": float(high), "ratio": None,
             "ratio_low": None, "ratio_high": None, "count": len(values)}  # fmt: skip
    if (base > 0).all():
        ratio_low, ratio_high = np.percentile(means / base, (2.5, 97.5))
        found |= {"ratio": float(values.mean() / reference.mean()), "ratio_low": float(ratio_low),
                  "ratio_high": float(ratio_high)}  # fmt: skip
    return found


def write_agreement(name: str, result: Mapping[str, Any]) -> Path:
    """Puts what was measured into the card of a network."""
    import yaml

    from drp_slam.card import load_card

    card, body = load_card(name), result["networks"][name]
    means = {m: _short(body["all"][m]) for m in METRICS}
    options = (
        f" --ate --configurations {result['configurations']}" if result["configurations"] else ""
    )
    agreement: dict[str, Any] = {
        "command": f"python -m drp_slam evaluate {Path(result['reference']).stem} {card.name} "
                   f"--sequence {result['sequence']}{options}",
        "reference": Path(result["reference"]).stem,
        "pairs": result["pairs"], "gap_s": result["gap_s"], **means,
    }  # fmt: skip
    if body["kept_out"] is not None:
        agreement["kept_out"] = {m: _short(body["kept_out"][m]) for m in METRICS}
    if "ate_m" in body:
        agreement["ate_m"] = _short(body["ate_m"])
    path = card.onnx.with_suffix(".yaml")
    part = path.with_name(path.name + ".part")
    facts = {**card.facts, "agreement": agreement}
    part.write_text(yaml.safe_dump(facts, sort_keys=False, width=100))
    part.replace(path)
    return path


def _short(body: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if body[k] is None else float(f"{body[k]:.4g}")
            for k in ("mean", "low", "high", "ratio", "ratio_low", "ratio_high")}  # fmt: skip


def show(result: Mapping[str, Any]) -> None:
    """Prints one row a network and part."""
    from rich.console import Console
    from rich.table import Table

    title = (f"{result['sequence']}: {result['pairs']} pairs {result['gap_s']:g} s apart, "
             f"{result['pairs_kept_out']} kept out; ratios to {result['reference']}")  # fmt: skip
    table = Table(title=title)
    columns = ("network", "zero", "kB", "part", "PnP inliers", "ratio", "overlap", "error cm",
               "ratio", "error deg", "ratio")  # fmt: skip
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i in (0, 3) else "right")
    for name, body in result["networks"].items():
        for part in ("all", "kept_out"):
            if body[part] is not None:
                head = ((name, f"{body['sparsity']:.0%}", f"{body['bytes'] / 1000:.0f}")
                        if part == "all" else ("", "", ""))  # fmt: skip
                table.add_row(*head, part.replace("_", " "), *_cells(body[part]))
    console = Console(width=None if Console().is_terminal else 150)
    console.print(table)
    for name, body in result["networks"].items():
        if "ate_m" in body:
            ate = body["ate_m"]
            console.print(f"{name}: ATE {ate['mean'] * 100:.2f} cm [{ate['low'] * 100:.2f}, "
                          f"{ate['high'] * 100:.2f}] over {ate['count']} configurations, ratio "
                          f"{_ratio(ate)}, {body['tracked']:.1%} tracked")  # fmt: skip


def _cells(part: Mapping[str, Any]) -> list[str]:
    inliers, shared = part["inliers"], part["overlap"]
    cells = [f"{inliers['mean']:.0f}", _ratio(inliers), f"{shared['mean']:.0%}"]
    for metric, scale in (("error_m", 100), ("error_deg", 1)):
        mean = part[metric]["mean"]
        cells += ["-" if mean is None else f"{mean * scale:.2f}", _ratio(part[metric])]
    return cells


def _ratio(body: Mapping[str, Any]) -> str:
    if body["ratio"] is None:
        return "-"
    return f"{body['ratio']:.1%} [{body['ratio_low']:.1%}, {body['ratio_high']:.1%}]"
