# SPDX-License-Identifier: Apache-2.0
"""The one table of which nodes run, with which parameters and remappings. No ROS is imported.

`python -m drp_slam up` and `launch/*.launch.py` both read it, so what tests start is what
`ros2 launch` starts.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drp_slam import resources
from drp_slam.atomic import write_text
from drp_slam.config import NODE_SECTIONS, Config
from drp_slam.errors import GraphError
from drp_slam.nodes.camera_topics import CAMERA_IN, TRANSPORTS
from drp_slam.nodes.limits import IN_FLIGHT
from drp_slam.nodes.shared_memory import PROFILE, lacking_room

STAGE_IN = {"drp_node": ("heads",), "perception_node": ("tensor",), "pose_node": ("features",)}
"""Node -> topics from the stage before it."""
UNITS_OF = {"drp_node": ("drp", "cpu"), "perception_node": ("drpai3",), "pose_node": ("cpu",)}
"""Node -> units whose stages it runs: pose_node the tracker's, the others the front end's."""
TF = (("/tf", "tf"), ("/tf_static", "tf_static"))
"""In a namespace, a robot has its own /tf, as in Nav2."""
NAMESPACE = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)*")
TOPIC = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


@dataclass(frozen=True)
class Place:
    """Namespace and camera topics of the graph.

    `topics` renames `CAMERA_TOPICS` to a camera's; `namespace` is empty or starts with a slash. `shared_tf`: /tf is
    that of all robots, whose frames have prefixes. Raises GraphError for invalid ROS names.
    """

    topics: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    use_sim_time: bool = False
    shared_tf: bool = False

    def __post_init__(self) -> None:
        namespace = "/" + self.namespace.strip("/") if self.namespace.strip("/") else ""
        object.__setattr__(self, "namespace", namespace)
        topics = dict(self.topics)
        if "right" in topics:  # the name in image_transport
            beside = topics["right"].removesuffix("/compressed").rpartition("/")[0]
            topics.setdefault("right_camera_info", f"{beside}/camera_info")
        object.__setattr__(self, "topics", topics)
        if not NAMESPACE.fullmatch(namespace):
            raise GraphError(f"namespace {self.namespace!r}: expected a name such as robot1")
        for name, topic in self.topics.items():
            if not TOPIC.fullmatch(topic):
                raise GraphError(f"{name} topic {topic!r}: expected a ROS name such as /camera/color/image_raw")

    @property
    def pair(self) -> bool:
        """Whether the camera is a stereo pair."""
        return "right" in self.topics

    def remappings(self) -> tuple[tuple[str, str], ...]:
        """Pairs of names, for ROS's own remapping."""
        out: list[tuple[str, str]] = []
        for name, topic in self.topics.items():
            transports = TRANSPORTS.get(name, ())
            plain, _, last = topic.rpartition("/")
            base = plain if last in transports else topic  # the user named the compressed topic itself
            out += [(name, base), *((f"{name}/{t}", f"{base}/{t}") for t in transports)]
        if "depth" in self.topics:
            depth = dict(out)["depth"]
            out.append(("depth_camera_info", f"{depth.rpartition('/')[0]}/camera_info"))
        return (*out, *(TF if self.namespace and not self.shared_tf else ()))


CONTAINER = "container"
DENSE = "dense_node"
"""Never in a container: Open3D would stop the other nodes while it works."""

ROOT = Place()
"""The root namespace, with the topics' default names."""


@dataclass(frozen=True)
class NodeSpec:
    """One process. `remappings` are pairs of names; `ends`: the graph ends with this node.

    `members` are the nodes of a container process.
    """

    name: str
    parameters: Mapping[str, Any]
    remappings: tuple[tuple[str, str], ...] = ()
    ends: bool = False
    namespace: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    members: tuple[NodeSpec, ...] = ()

    @property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """The nodes of the process."""
        return self.members or (self,)

    @property
    def arguments(self) -> list[str]:
        """Arguments of the executable, before `--ros-args`."""
        return [member.name for member in self.members]

    @property
    def renames(self) -> list[str]:
        """ROS arguments for remappings and namespace."""
        names = (*self.remappings, *((("__ns", self.namespace),) if self.namespace else ()))
        return [word for a, b in names for word in ("-r", f"{a}:={b}")]

    @property
    def module(self) -> str:
        return f"drp_slam.nodes.{self.name}"


def stage_nodes(features: str) -> tuple[str, ...]:
    """The nodes that run the stages of a frame with front end `features`. Raises ConfigError."""
    from drp_slam.frontend.front_end import front_end_class

    units = {stage.unit for stage in front_end_class(features).stages}
    return tuple(name for name, own in UNITS_OF.items() if name == "pose_node" or units & set(own))


def nodes(config: Config, player: bool, place: Place = ROOT) -> list[NodeSpec]:
    """The nodes of the front end's stages, the profiler, and the player if a sequence is played.

    The player's topics are subscribed reliably, and at rate max no queue drops a frame (`qos_overrides`).
    """
    names = ["profiler_node", *stage_nodes(config.graph.features)]
    if config.drpai3.detector and "perception_node" not in names:
        names.append("perception_node")  # for the detector alone
    names += [DENSE] if config.graph.dense else []
    names += ["player_node"] if player else []
    lossless = config.player.rate == 0.0
    return [
        NodeSpec(
            name,
            {
                **dataclasses.asdict(getattr(config, NODE_SECTIONS[name])),
                **dataclasses.asdict(config.graph),
                **(_overrides(name, lossless) if player else {}),
                **({"use_sim_time": True} if place.use_sim_time else {}),
            },
            place.remappings(),
            ends=name == "player_node",
            namespace=place.namespace,
            environment={
                **threads(config.drpai3.threads if name == "perception_node" else 1),
                **transport(name == "player_node", local=player),
            },
        )
        for name in names
    ]


def contained(specs: list[NodeSpec]) -> list[NodeSpec]:
    """The nodes as one process, in which the profiler shuts down last; it ends with the player.

    `dense_node` stays a process of its own.
    """
    apart = [spec for spec in specs if spec.name == DENSE]
    specs = [spec for spec in specs if spec.name != DENSE]
    order = sorted(specs, key=lambda spec: (not spec.ends, spec.name == "profiler_node"))
    environment: dict[str, str] = {}
    for spec in order[::-1]:  # the player's shared memory, if there is one
        environment |= spec.environment
    ends = any(spec.ends for spec in specs)
    one = specs[0]
    return [NodeSpec(CONTAINER, {}, one.remappings, ends, one.namespace, environment, tuple(order)), *apart]


def threads(count: int) -> dict[str, str]:
    """Environment that keeps the thread pools of numeric libraries from competing for few cores."""
    return {name: str(count) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def transport(sends_images: bool, local: bool) -> dict[str, str]:
    """Fast DDS's profile, unless the user has chosen one: the size of each process's shared memory.

    Shared memory is off if there is too little for all. `local` binds sockets to the loopback address.
    """
    size = "_udp" if lacking_room() else "" if sends_images else "_small"
    name = f"fastdds{'_local' if local else ''}{size}.xml"
    return {PROFILE: os.environ.get(PROFILE, str(resources.share() / "config" / name))}


def environment(local: bool, logs: Path | None = None) -> dict[str, str]:
    """Environment of all nodes, which replaces the caller's own; variables set by the user are kept.

    `local`: a recording stays on this machine, through the profile of `transport`. If the user asks for the same
    through ROS's discovery range, the profile does it, too: the range would replace its transports by
    sockets on every address. Another profile or a wider range chosen by the user is respected.
    """
    wanted = {"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}
    if logs is not None or no_home():
        wanted["ROS_LOG_DIR"] = str(logs or Path(tempfile.gettempdir(), f"drp_slam-log-{os.getuid()}"))
    chosen = {name: os.environ.get(name, value) for name, value in wanted.items()}
    here = {name: os.environ.get(name, "") for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY")}
    if not local or (PROFILE in os.environ and any(here.values())):
        return chosen
    if PROFILE in os.environ:
        return chosen | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    if here["ROS_LOCALHOST_ONLY"] not in ("", "0"):
        return chosen | {"ROS_LOCALHOST_ONLY": "0", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}
    if here["ROS_AUTOMATIC_DISCOVERY_RANGE"] in ("", "LOCALHOST"):
        return chosen | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}
    return chosen


def no_home() -> bool:
    """Whether rclpy cannot make the folder of its logs, which is below `ROS_HOME` or `HOME`: it would end with that."""
    home, given = os.environ.get("HOME"), os.environ.get("ROS_HOME")
    if not (home or given):
        return True
    try:
        Path(given or f"{home}/.ros", "log").mkdir(parents=True, exist_ok=True)
    except OSError:
        return True
    return False


def _overrides(name: str, lossless: bool) -> dict[str, Any]:
    """QoS parameters of a node that receives from the player, by relative topic name: valid in any namespace."""
    out: dict[str, Any] = {}
    camera, stages = CAMERA_IN.get(name, ()), STAGE_IN.get(name, ())
    for topic in camera + stages:
        prefix = f"qos_overrides.{topic}.subscription"
        if topic in camera:
            out[f"{prefix}.reliability"] = "reliable"
        if lossless:
            out[f"{prefix}.depth"] = IN_FLIGHT
    return out


def write_parameters(path: Path, specs: list[NodeSpec]) -> None:
    """All parameters of all nodes as one ROS parameter file. Raises GraphError."""
    import yaml

    tree = {f"{n.namespace}/{n.name}": {"ros__parameters": dict(n.parameters)} for s in specs for n in s.nodes}
    write_text(path, yaml.safe_dump(tree, sort_keys=False), GraphError)
