# SPDX-License-Identifier: Apache-2.0
"""`up`: the ROS 2 graph as processes of this host."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from drp_slam.commands import _options as options
from drp_slam.profiler.terminal import show as show

HELP = "start the ROS 2 nodes as processes, with a recording or a camera"
EXAMPLE = "up --sequence synthetic --rate max --json"


def add_arguments(p: argparse.ArgumentParser) -> None:
    text = f"play this: {options.SEQUENCE}; without it a camera publishes image, depth and camera_info"
    options.add_sequence(p, "--sequence", help=text)
    options.add_slam(p)
    options.add_map(p)
    options.add_player(p)
    options.add_place(p)
    options.add_dense(p)
    text = "host: publish at once; realtime: hold each result until the chip would have it (default: host)"
    p.add_argument("--pacing", choices=("host", "realtime"), help=text)
    options.add_export(p)
    text = "restart nodes that die (default: with a camera; without it, a recording ends with an error)"
    p.add_argument("--respawn", action=argparse.BooleanOptionalAction, help=text)
    p.add_argument("--container", action="store_true", help="run all nodes in one process; pass images by reference")
    text = "show the graph live in the Rerun viewer, or record it to FILE.rrd (pip install drp_slam[view])"
    p.add_argument("--rerun", nargs="?", const="", metavar="FILE", help=text)
    options.add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The report of the results in `--out`.

    Raises DataError for a recording that cannot be opened, before any process starts.
    """
    from drp_slam.config.config_file import override
    from drp_slam.data.dataset import open_sequence, playable
    from drp_slam.nodes.options import player_parameters
    from drp_slam.nodes.up import run_graph
    from drp_slam.reporting.claim import claimed
    from drp_slam.reporting.results import build

    config, sequence = options.configured(args), None
    place = replace(options.placed(args), shared_tf=bool(config.graph.frame_prefix))
    if args.sequence is not None:
        config = playable(override(config, {f"player.{k}": v for k, v in player_parameters(args).items()}))
        args.sequence = config.player.sequence
        sequence = open_sequence(args.sequence, args.camera, args.start, args.frames)
    out = options.out_folder(args).resolve()
    respawn = sequence is None if args.respawn is None else args.respawn
    pair = place.pair if sequence is None else sequence.camera.baseline_m is not None
    config = override(config, {"graph.out": str(out), "graph.pair": pair})
    if sequence is not None and sequence.camera.mono:
        config = override(config, {"slam.sensor": "mono"})
    options.refuse_dense(args, config.slam.sensor == "mono")
    if args.dense and sequence is None:  # there is no recording to read again: a node keeps the keyframes
        config = override(config, {"graph.dense": True})
    about = {
        "sequence": args.sequence,
        "camera": args.camera,
        "start": args.start,
        "graph": True,
        "in_flight": config.player.in_flight,
        "rate": args.rate,
    }
    with claimed(out, args.sequence) as run_id:
        run_graph(config, sequence, out, about | {"run_id": run_id}, respawn, place, args.container, args.rerun)
    return build(out) | options.dense_files(args, out, made=sequence is None) | options.exported(args, out)
