# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and how they are applied."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam import resources
from drp_slam.errors import ConfigError
from drp_slam.nodes.camera_topics import CAMERA_TOPICS, PAIR_TOPICS

if TYPE_CHECKING:
    from drp_slam.commands import Command
    from drp_slam.config import Config
    from drp_slam.nodes.table import Place

SEQUENCE = (
    "folder of TUM RGB-D, KITTI or EuRoC, rosbag2, or synthetic:seed=1; BAG:image=/T,depth=/T,right=/T chooses topics, "
    "NAME:depth_unit_m=0.001,depth_offset_s=0.03,registered=yes tells how to read depth"
)


def add_common(p: argparse.ArgumentParser) -> None:
    """Options of every command."""
    p.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    p.add_argument("--verbose", action="store_true", help="log more")


def add_out(p: argparse.ArgumentParser, default: str = "results/NAME-TIME") -> None:
    """The folder of a command that writes files."""
    p.add_argument("--out", type=Path, metavar="DIR", help=f"write files to this folder (default: {default})")


def add_sequence(p: argparse.ArgumentParser, name: str = "sequence", **kwargs: Any) -> None:
    """A recording: an argument or, with leading hyphens, an option."""
    p.add_argument(name, **{"help": SEQUENCE, **({"metavar": "SEQ"} if name.startswith("-") else {}), **kwargs})


def add_frames(p: argparse.ArgumentParser, start: bool = True) -> None:
    """Which frames of the recording."""
    if start:
        p.add_argument("--start", type=int, default=0, metavar="N", help="begin at this frame")
    p.add_argument("--frames", type=int, metavar="N", help="stop after this many frames")


def add_dense(p: argparse.ArgumentParser) -> None:
    """The option for a dense map after the run; `dense_files` writes it."""
    text = "fuse the depth: mesh, cloud and occupancy grid beside the results (needs Open3D)"
    p.add_argument("--dense", action="store_true", help=text)


def refuse_dense(args: argparse.Namespace, mono: bool) -> None:
    """Raises ConfigError for `--dense` with a camera without depth, before anything runs."""
    if args.dense and mono:
        raise ConfigError(
            "--dense fuses depth, and this camera has none; leave it out, or add depth or a second camera"
        )


def dense_files(args: argparse.Namespace, out: Path, made: bool = False) -> dict[str, Any]:
    """`dense` of a report, with `--dense`. `made`: the graph has written the files, if anything was mapped."""
    if not args.dense:
        return {}
    from drp_slam.reporting import folder
    from drp_slam.reporting.dense_files import write_dense

    if not made:
        return {"dense": write_dense(out)}
    about = out / folder.DENSE_JSON
    return {"dense": folder.read_json(about)} if about.exists() else {}


def add_export(p: argparse.ArgumentParser) -> None:
    """Further formats of the trajectory; `exported` writes them."""
    text = "write the trajectory in this format too; may be repeated"
    p.add_argument("--export", action="append", default=[], choices=("kitti", "euroc"), help=text)


def exported(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """`exports` of a report, with `--export`."""
    if not args.export:
        return {}
    from drp_slam.data.trajectory_export import export_results

    return {"exports": export_results(out, args.export)}


def add_camera(p: argparse.ArgumentParser) -> None:
    p.add_argument("--camera", metavar="NAME|FILE", help="use this calibration, even if the sequence has one")


def add_device(p: argparse.ArgumentParser, default: str | None = "rzv2h", shown: str = "rzv2h") -> None:
    """The option for the chip to model: a name from config/devices, or a path."""
    text = "model this chip: rzv2h, rzv2n, rzv2l, rzv2m, rzv2ma or a YAML file"
    p.add_argument("--device", default=default, metavar="NAME|FILE", help=f"{text} (default: {shown})")


def add_slam(p: argparse.ArgumentParser) -> None:
    """Options for devices, networks and parameters; `configured` reads them."""
    p.add_argument("--backend", choices=("emulated", "cpu"), help="compute with this device (default: emulated)")
    p.add_argument("--network", metavar="NAME|FILE", help="use this shipped network or ONNX file with a card")
    p.add_argument("--features", metavar="NAME", help="use this front end (default: xfeat)")
    p.add_argument("--detector", metavar="NAME|FILE", help="detect objects with this ONNX network as well")
    text = "mono: use the image alone, up to scale (default: with depth or a stereo pair, if there is one)"
    p.add_argument("--sensor", choices=("auto", "mono"), help=text)
    add_device(p, None)
    p.add_argument("--config", type=Path, metavar="FILE", help="read parameters from a YAML like config/drp_slam.yaml")
    text = "override one parameter; may be repeated"
    p.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=text)
    add_camera(p)


def add_map(p: argparse.ArgumentParser) -> None:
    """Options for loading and saving a map, and for a motion prior; `configured` reads them."""
    p.add_argument("--map", metavar="FILE", help="load this map and localise in it first, from any place")
    p.add_argument("--localise", action="store_true", help="with --map: localise only; never change the map")
    p.add_argument("--save-map", metavar="FILE", help="save the map at the end; may be the file of --map")
    text = "predict the motion from this file of poses, orientations or angular velocities (wheel odometry, IMU)"
    p.add_argument("--prior", metavar="FILE", help=text)


def add_player(p: argparse.ArgumentParser) -> None:
    """Options for playing a recording into the graph."""
    text = "play at this speed; max: as fast as the graph keeps up (default: 1.0)"
    p.add_argument("--rate", default="1.0", metavar="1.0|max", help=text)
    add_frames(p)
    text = "keep this many frames in flight at --rate max (default: 3)"
    p.add_argument("--in-flight", type=int, default=3, metavar="N", help=text)
    p.add_argument("--loop", action="store_true", help="restart at the end")


def add_place(p: argparse.ArgumentParser) -> None:
    """Options for topics, namespace and frames of a graph; `placed` reads them."""
    for topic, text in CAMERA_TOPICS.items():
        option, default = topic.replace("_", "-"), "" if topic in PAIR_TOPICS else f" (default: {topic})"
        p.add_argument(f"--{option}-topic", metavar="TOPIC", help=f"subscribe to this topic for {text}{default}")
    for name, what in (("odometry", "wheel odometry (nav_msgs/Odometry)"), ("imu", "an IMU (sensor_msgs/Imu)")):
        text = f"predict the motion from {what} on this topic, and bridge up to 2 s without vision (default: none)"
        p.add_argument(f"--{name}-topic", metavar="TOPIC", help=text)
    p.add_argument("--namespace", metavar="NAME", default="", help="put nodes, topics and /tf into this ROS namespace")
    text = "prefix all frames with this, such as robot1/, to share /tf with other robots (default: none)"
    p.add_argument("--frame-prefix", metavar="TEXT", help=text)
    p.add_argument("--use-sim-time", action="store_true", help="follow /clock, as with a simulator or ros2 bag --clock")
    text = "mount of the camera on the robot, if /tf does not have it: x y z in m, roll pitch yaw in deg"
    p.add_argument("--mount", metavar='"X Y Z R P Y"', help=text)


def placed(args: argparse.Namespace) -> Place:
    """Topics, namespace and clock of a graph. Raises GraphError for names that ROS does not accept."""
    from drp_slam.errors import GraphError
    from drp_slam.nodes.table import Place

    topics = {name: topic for name in CAMERA_TOPICS if (topic := getattr(args, f"{name}_topic")) is not None}
    if topics and args.sequence is not None:
        raise GraphError(f"--{next(iter(topics)).replace('_', '-')}-topic is of a camera; leave out --sequence")
    return Place(topics, args.namespace, args.use_sim_time)


def configured(args: argparse.Namespace) -> Config:
    """The configuration: defaults, overridden by `--config`, then by options, then by `--set`.

    A device file is named by its absolute path, so that the results can be reported from anywhere.
    Raises ConfigError for a `--set` that is not SECTION.KEY=VALUE, and as `config_file.load` does.
    """
    from drp_slam.config.config_file import load, override

    values: dict[str, Any] = {}
    if args.backend is not None:
        values |= {f"{section}.backend": args.backend for section in ("drp", "drpai3")}
    given = {
        name: getattr(args, name, None) for name in ("device", "features", "network", "mount", "pacing", "frame_prefix")
    }
    values |= {name: value for name, value in given.items() if value is not None}
    for name in ("map", "save_map", "prior"):
        if getattr(args, name, None):
            values[f"slam.{name}"] = str(Path(getattr(args, name)).expanduser().absolute())
    for name in ("odometry_topic", "imu_topic"):
        if getattr(args, name, None):
            values[f"slam.{name}"] = getattr(args, name)
    if getattr(args, "sensor", None) is not None:
        values["slam.sensor"] = args.sensor
    if getattr(args, "localise", False):
        values["slam.localise"] = True
    if getattr(args, "detector", None) is not None:
        values["drpai3.detector"] = args.detector
    for item in args.set:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item!r} has no '='; write SECTION.KEY=VALUE, such as slam.min_inliers=20")
        values[key] = resources.parse_yaml(text, f"--set {key}", ConfigError) if text else ""
    config = override(load(args.config), values)
    return override(config, {"device": resources.device_name(config.graph.device)})


def out_folder(args: argparse.Namespace) -> Path:
    """Creates and returns the folder of the results: `--out`, else `results/<command>-<time>`."""
    from drp_slam.atomic import make_folder

    return make_folder(args.out or Path("results") / f"{args.command}-{time.strftime('%Y%m%d-%H%M%S')}")


def kept(args: argparse.Namespace, result: dict[str, Any]) -> dict[str, Any]:
    """The result, written to `<command>.json` where `--out` is given; `json` then names the file."""
    from drp_slam.reporting.folder import write_json

    if not args.out:
        return result
    path = out_folder(args) / f"{args.command}.json"
    write_json(path, result)
    return result | {"json": str(path)}


def parsed(command: Command, argv: list[str]) -> argparse.Namespace:
    """The arguments of one command, for a command that runs others."""
    p = argparse.ArgumentParser()
    command.add_arguments(p)
    add_common(p)
    return p.parse_args(argv)
