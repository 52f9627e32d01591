# SPDX-License-Identifier: Apache-2.0
"""Features <-> PointCloud2: `u v score` as float32, the descriptor in the front end's dtype, and `depth` of a pair."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from drp_slam.datatypes import DescriptorSpec, Features
from drp_slam.errors import GraphError
from drp_slam.nodes.convert import bytes_of

DATATYPES = {"float32": PointField.FLOAT32, "uint8": PointField.UINT8}


def record(spec: DescriptorSpec, depth: bool = False) -> np.dtype:
    """Layout of one point; `depth` (m, 0 where unknown) is present where it was measured at the keypoints."""
    point = [("uv", np.float32, 2), ("score", np.float32), *([("depth", np.float32)] if depth else [])]
    return np.dtype([*point, ("descriptor", spec.dtype, spec.length)])


def fields(spec: DescriptorSpec, depth: bool = False) -> list[PointField]:
    """`u v score [depth] descriptor[length]`."""
    names = ("u", "v", "score", *(("depth",) if depth else ()))
    out = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate(names)]
    at = 4 * len(names)
    return [*out, PointField(name="descriptor", offset=at, datatype=DATATYPES[spec.dtype], count=spec.length)]


def to_message(features: Features, spec: DescriptorSpec, head: Header) -> PointCloud2:
    """Features as a cloud, one point per feature."""
    measured = features.depth_m is not None
    kind = record(spec, measured)
    table = np.empty(len(features), kind)
    table["uv"], table["score"], table["descriptor"] = features.uv, features.score, features.descriptor
    if measured:
        table["depth"] = features.depth_m
    return PointCloud2(
        header=head,
        height=1,
        width=len(table),
        fields=fields(spec, measured),
        point_step=kind.itemsize,
        row_step=kind.itemsize * len(table),
        data=bytes_of(table),
        is_dense=True,
    )


def from_message(message: PointCloud2, spec: DescriptorSpec) -> Features:
    """Features of a message. Raises GraphError for other fields or truncated data."""
    measured = any(f.name == "depth" for f in message.fields)
    kind = record(spec, measured)
    layout = [(f.name, f.offset, f.datatype, f.count) for f in message.fields]
    if layout != [(f.name, f.offset, f.datatype, f.count) for f in fields(spec, measured)]:
        raise GraphError(
            f"features: fields {[f'{f.name}[{f.count}]' for f in message.fields]}, expected float32 u v score and "
            f"{spec.dtype} descriptor[{spec.length}]; give all nodes the same features"
        )
    count = message.width * message.height
    if message.point_step != kind.itemsize or len(message.data) < count * kind.itemsize:
        raise GraphError(
            f"features: truncated: {len(message.data)} bytes for {count} points of {kind.itemsize} bytes; "
            "fix the publisher"
        )
    table = np.frombuffer(message.data, kind, count)
    names = ("uv", "score", "descriptor", *(("depth",) if measured else ()))
    return Features(*(np.ascontiguousarray(table[name]) for name in names))
