# SPDX-License-Identifier: Apache-2.0
"""`bench --robustness`: the tracker on a recording made harder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._tables import print_table
from drp_slam.profiler.terminal import print_lines


def add_options(p: argparse.ArgumentParser) -> None:
    """What `--robustness` measures."""
    p.add_argument(
        "--robustness",
        action="store_true",
        help="measure accuracy instead, on a degraded recording: dropped frames, darkness, blur, missing depth, "
        "moving objects",
    )
    text = 'with --robustness: only cases named with these words; "moving" makes scenes in which things move'
    p.add_argument("--cases", default="", metavar="WORDS", help=text)
    p.add_argument("--scenes", type=int, default=36, metavar="N", help="number of moving scenes (default: 36)")
    p.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the moving scenes (default: 0)")
    text = "show this recording's frames on half of the boards of moving scenes"
    p.add_argument("--pictures", metavar="SEQUENCE", help=text)
    text = "with --robustness: also run ORB-SLAM3 (package pyorbslam3) with this vocabulary, and show its errors beside"
    p.add_argument("--orbslam3-vocabulary", type=Path, metavar="FILE", help=text)


def measure(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Every case of `data/disturbances.py`: frames tracked, errors, reasons of losses; moving scenes where named."""
    from drp_slam.config import Config
    from drp_slam.data import disturbances
    from drp_slam.data.dataset import open_sequence
    from drp_slam.evaluation import among_movers, orbslam3, robustness
    from drp_slam.reporting.folder import write_json

    if args.orbslam3_vocabulary:
        orbslam3.check(args.orbslam3_vocabulary)
    cases, config = disturbances.cases(args.cases), Config()
    sequence = open_sequence(args.sequence, frames=args.frames)
    result = {"sequence": args.sequence, "robustness": robustness.measure(sequence, cases, config), "out": str(out)}
    if args.orbslam3_vocabulary:
        for row in result["robustness"]:
            told = args.sequence, row["case"], args.frames, args.orbslam3_vocabulary, row["mirrored"]
            row["orbslam3"] = orbslam3.row(*told)
    if disturbances.scenes_named(args.cases):
        pictures = open_sequence(args.pictures) if args.pictures else None

        def opened(start: int, frames: int | None) -> Any:
            return open_sequence(args.sequence, start=start, frames=frames or args.frames)

        rows = among_movers.measure(opened, config, max(args.scenes, 1), args.seed, pictures)
        result["moving_scenes"] = {"seed": args.seed, "scenes": rows, "table": among_movers.table(rows)}
    write_json(out / "robustness.json", result)
    return result


def show(result: dict[str, Any]) -> None:
    """Prints one row per case, and one per group of moving scenes."""
    if result["robustness"]:
        _show_cases(result)
    if "moving_scenes" in result:
        _show_scenes(result["sequence"], result["moving_scenes"])
    print_lines([f"wrote {result['out']}/robustness.json"])


def _show_cases(result: dict[str, Any]) -> None:
    """With a static camera the live error is the largest distance from the start."""
    rows = []
    for row in result["robustness"]:
        errors = ("–" if row[key] is None else f"{row[key] * 1e3:.1f}" for key in ("ate_m", "live_m"))
        within = "–" if row["within_2_sigma"] is None else f"{row['within_2_sigma']:.1%}"
        nees = "–" if row["nees_3"] is None else f"{row['nees_3']:.2f}"
        told = [f"{name.replace('_', ' ')} {n}" for name, n in row["reasons"].items()]
        told += ["ground truth mirrored"] if row["mirrored"] else []
        tracked = f"{row['tracked']} / {row['frames']}"
        rows.append((row["case"], tracked, str(row["keyframes"]), *errors, within, nees, ", ".join(told)))
    columns = "case|tracked|keyframes|ATE mm|live mm|within 2σ|NEES/3|lost or in doubt"
    print_table(columns, rows, title=result["sequence"], left=("case", "lost or in doubt"), spare="keyframes")
    if any("orbslam3" in row for row in result["robustness"]):
        _show_beside(result)


def _show_beside(result: dict[str, Any]) -> None:
    """Both systems on the same frames; refined: the trajectory at the end, of all keyframes as they are then."""
    rows = []
    for row in result["robustness"]:
        cells = [row["case"]]
        for one in (row, row["orbslam3"]):
            millimetres = ("–" if one[key] is None else f"{one[key] * 1e3:.1f}" for key in ("live_m", "ate_m"))
            cells += [f"{one['tracked']} / {one['frames']}", *millimetres]
        rows.append((*cells, row["orbslam3"]["ended"]))
    columns = "case|tracked|live mm|refined mm|ORB-SLAM3|live mm |refined mm |ended"
    title = f"{result['sequence']}: drp_slam, and ORB-SLAM3 on the same frames"
    print_table(columns, rows, title=title, left=("case", "ended"), spare="ended")


def _show_scenes(name: str, result: dict[str, Any]) -> None:
    """Errors are distances from the clean run, and what is added to its error against the ground truth; `wrong`: off by
    more than 20 mm and by two stated deviations."""
    rows = [_group(row) for row in result["table"]]
    columns = "features that move|camera|scenes|frames|lost|from clean mm|added mm|over 20 mm|wrong"
    title = f"{name}: {len(result['scenes'])} moving scenes of seed {result['seed']}"
    print_table(columns, rows, title=title, left=("features that move", "camera"), spare="frames")


def _group(row: dict[str, Any]) -> tuple[str, ...]:
    low, high = row["share"]
    share = f"{low:.0%} to {high:.0%}" if low else f"at most {high:.0%}"
    counts = (row["scenes"], row["frames"], row["frames"] - row["tracked"])
    errors = (f"{row['largest_m'] * 1e3:.1f}", f"{row['added_m'] * 1e3:.1f}", str(row["over"]), str(row["wrong"]))
    return (share, "still" if row["still"] else "moves", *(str(n) for n in counts), *errors)
