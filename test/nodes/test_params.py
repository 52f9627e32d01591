# SPDX-License-Identifier: Apache-2.0
"""Parameters: one truth in the dataclasses, and nothing unknown is swallowed."""

from __future__ import annotations

import dataclasses
import re

import pytest

from drp_slam import resources
from drp_slam.config import Config, DrpConfig, GraphConfig, PlayerConfig
from drp_slam.config.config_file import load, override
from drp_slam.errors import ConfigError, DrpSlamError, GraphError
from drp_slam.nodes import table, yaml_file

pytest.importorskip("rclpy")

from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from drp_slam.nodes import params
from drp_slam.nodes.up import verify


@pytest.fixture
def make_node():
    context = Context()
    context.init(args=[], initialize_logging=False)
    made = []

    def make(**overrides):
        made.append(
            Node(
                "probe",
                context=context,
                automatically_declare_parameters_from_overrides=True,
                parameter_overrides=[Parameter(k, value=v) for k, v in overrides.items()],
                start_parameter_services=False,
                enable_rosout=False,
            )
        )
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()
    context.try_shutdown()


def test_yaml_file_is_what_the_dataclasses_say():
    shipped = resources.share() / "config" / "drp_slam.yaml"
    assert shipped.read_text() == yaml_file.text(), (
        "renew it: python -m drp_slam.nodes.yaml_file > config/drp_slam.yaml"
    )
    assert load(shipped) == Config()


def test_defaults_descriptions_and_ranges(make_node):
    node = make_node()
    drp, graph = params.read(node, DrpConfig, GraphConfig)
    assert drp == DrpConfig() and graph == GraphConfig()
    described = node.describe_parameter("top_k")
    meta = DrpConfig.__dataclass_fields__["top_k"].metadata
    assert described.description.startswith(meta["help"]) and not described.read_only
    assert described.integer_range[0].from_value == meta["low"]
    assert node.describe_parameter("threshold").floating_point_range[0].to_value == 1.0


def test_overrides_reach_the_dataclass(make_node):
    node = make_node(top_k=99, threshold=1, use_sim_time=True, **{"qos_overrides./image.subscription.depth": 7})
    (drp,) = params.read(node, DrpConfig)
    assert drp.top_k == 99 and drp.threshold == 1.0
    assert node.get_parameter("top_k").value == 99


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"topk": 5}, "unknown parameter 'topk' of probe"),
        ({"top_k": 5}, "drp.top_k is 5, expected 16"),
        ({"top_k": "many"}, "drp.top_k is 'many', expected int"),
        ({"backend": "gpu"}, "drp.backend is 'gpu', expected one of"),
        ({"threshold": float("nan")}, "drp.threshold is nan"),
    ],
)
def test_wrong_parameters_are_refused_by_name(make_node, overrides, words):
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        params.read(make_node(**overrides), DrpConfig, GraphConfig)


def test_a_running_node_refuses_changes(make_node):
    node = make_node()
    params.read(node, PlayerConfig)
    result = node.set_parameters([Parameter("rate", value=2.0)])[0]
    assert not result.successful and "read-only" in result.reason


def test_a_running_node_takes_other_values_or_says_why_not():
    context = Context()
    context.init(args=[], initialize_logging=False)
    from drp_slam.nodes.drp_node import DrpNode
    from drp_slam.nodes.pose_node import PoseNode

    drp, pose = DrpNode(context=context), PoseNode(context=context)
    try:
        drp.start()
        pose.start()
        done = drp.set_parameters_atomically([Parameter("top_k", value=64), Parameter("mindiv", value=4)])
        assert done.successful and drp.config.drp.top_k == drp.configs[0].top_k == 64
        for name, value, words in (("threshold", 7.0, "threshold"), ("backend", "cpu", "read-only")):
            (refused,) = drp.set_parameters([Parameter(name, value=value)])
            assert not refused.successful and words in refused.reason
        (refused,) = drp.set_parameters([Parameter("network", value="no-such-network")])
        assert not refused.successful and "no-such-network" in refused.reason and drp.graph.network == "xfeat-p70"
        assert drp.get_parameter("network").value == "xfeat-p70"
        (done,) = drp.set_parameters([Parameter("network", value="xfeat")])
        assert done.successful and drp.config.graph.network == drp.graph.network == "xfeat"
        (refused,) = pose.set_parameters([Parameter("network", value="xfeat")])
        assert not refused.successful and "read-only" in refused.reason
        (done,) = pose.set_parameters([Parameter("min_inliers", value=40)])
        assert done.successful and pose.config.slam.min_inliers == 40
    finally:
        drp.destroy_node()
        pose.destroy_node()
        context.try_shutdown()


def test_table_carries_every_parameter(tmp_path):
    config = override(Config(), {"player.rate": 0.0, "drp.top_k": 77, "graph.out": "somewhere"})
    specs = table.nodes(config, player=True)
    assert [s.name for s in specs] == ["profiler_node", "drp_node", "perception_node", "pose_node", "player_node"]
    for spec in specs:
        known = {f.name for f in dataclasses.fields(GraphConfig)}
        assert known <= set(spec.parameters)
    drp = next(s for s in specs if s.name == "drp_node").parameters
    assert drp["top_k"] == 77 and drp["qos_overrides.image.subscription.reliability"] == "reliable"
    live = {k for s in table.nodes(Config(), player=True) for k in s.parameters}
    assert not any(k.startswith("qos") and k.endswith("depth") for k in live)
    camera = {k for s in table.nodes(Config(), player=False) for k in s.parameters}
    assert not any(k.startswith("qos") for k in camera)
    table.write_parameters(tmp_path / "p.yaml", specs)
    assert "/drp_node:\n  ros__parameters:\n    backend: emulated" in (tmp_path / "p.yaml").read_text()


def test_table_renames_camera_topics_with_their_transports():
    place = table.Place({"image": "/cam/color", "depth": "/cam/depth/compressedDepth"}, "robot1", use_sim_time=True)
    assert ("/tf", "tf") in place.remappings()
    assert ("/tf", "tf") not in dataclasses.replace(place, shared_tf=True).remappings()
    spec = next(s for s in table.nodes(Config(), False, place) if s.name == "pose_node")
    assert dict(spec.remappings) == {
        "image": "/cam/color",
        "image/compressed": "/cam/color/compressed",
        "depth": "/cam/depth",
        "depth/compressed": "/cam/depth/compressed",
        "depth/compressedDepth": "/cam/depth/compressedDepth",
        "depth_camera_info": "/cam/camera_info",
        "/tf": "tf",
        "/tf_static": "tf_static",
    }
    assert spec.namespace == "/robot1" and spec.parameters["use_sim_time"] is True


@pytest.mark.parametrize("wrong", [{"namespace": "1st"}, {"namespace": "a b"}, {"topics": {"image": ""}}])
def test_names_that_ros_does_not_take_are_refused(wrong):
    with pytest.raises(GraphError, match="expected a"):
        table.Place(**wrong)


def test_qos_of_a_topic_holds_whatever_it_is_called(make_node):
    from drp_slam.nodes import qos

    node = make_node(**{"qos_overrides.image.subscription.depth": 7})
    given = node.get_parameters_by_prefix("qos_overrides.image.subscription")
    profile = qos.overridden(qos.camera_in(), {name: p.value for name, p in given.items()})
    assert profile.depth == 7 and qos.camera_in().depth != 7


@pytest.mark.parametrize("text", ["- a", "word", "drp_node: 5", "drp_node: {top_k: 5}", "a: [", "n: {}"])
def test_a_file_that_holds_no_parameters_is_named(tmp_path, text):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(str(file))) as refused:
        load(file)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mount": "1"}, "expected six numbers"),
        ({"network": "none.onnx"}, "neither a file nor shipped"),
        ({"device": "eie"}, "eie"),
    ],
)
def test_what_every_node_would_end_with_is_refused_before_one_starts(values, words):
    verify(Config())
    with pytest.raises(DrpSlamError, match=words):
        verify(override(Config(), values))
