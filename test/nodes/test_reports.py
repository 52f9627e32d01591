# SPDX-License-Identifier: Apache-2.0
"""Whether another graph runs on the domain, by what is seen of it."""

from drp_slam.nodes.reports import TICKET, rival

OWN = ["drp_node", "pose_node", f"{TICKET}2_7"]
OWN_TICKET = OWN[-1]


def test_a_graph_alone_has_no_rival():
    assert rival(OWN, OWN_TICKET, []) == ""


def test_of_two_graphs_the_younger_gives_way():
    both = [*OWN, "drp_node", "pose_node"]
    assert rival([*both, f"{TICKET}1_9"], OWN_TICKET, ["drp_node"]) == f"{TICKET}1_9"
    assert rival([*both, f"{TICKET}3_9"], OWN_TICKET, ["drp_node"]) == ""


def test_a_graph_of_ros2_launch_is_a_rival_by_names_and_health():
    assert rival([*OWN, "drp_node"], OWN_TICKET, ["drp_node"]) == "drp_node"


def test_the_name_of_a_killed_node_is_not_a_rival():
    assert rival([*OWN, "drp_node"], OWN_TICKET, []) == ""


def test_health_recorded_in_a_bag_is_not_a_rival():
    assert rival(OWN, OWN_TICKET, ["drp_node", "pose_node"]) == ""
