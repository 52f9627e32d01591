# SPDX-License-Identifier: Apache-2.0
"""Features <-> PointCloud2: `u v score` as float32 and the descriptor as the front end gives it."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from drp_slam.datatypes import DescriptorSpec, Features
from drp_slam.errors import GraphError
from drp_slam.nodes.convert import bytes_of

DATATYPES = {"float32": PointField.FLOAT32, "uint8": PointField.UINT8}


def record(spec: DescriptorSpec) -> np.dtype:
    """One point of the cloud."""
    return np.dtype([("uv", np.float32, 2), ("score", np.float32), ("descriptor", spec.dtype, spec.length)])


def fields(spec: DescriptorSpec) -> list[PointField]:
    """`u v score descriptor[length]`."""
    layout = (("u", 0), ("v", 4), ("score", 8))
    floats = [PointField(name=n, offset=at, datatype=PointField.FLOAT32, count=1) for n, at in layout]
    return [*floats, PointField(name="descriptor", offset=12, datatype=DATATYPES[spec.dtype], count=spec.length)]


def to_message(features: Features, spec: DescriptorSpec, head: Header) -> PointCloud2:
    """One point a feature."""
    kind = record(spec)
    table = np.empty(len(features), kind)
    table["uv"], table["score"], table["descriptor"] = features.uv, features.score, features.descriptor
    return PointCloud2(
        header=head,
        height=1,
        width=len(table),
        fields=fields(spec),
        point_step=kind.itemsize,
        row_step=kind.itemsize * len(table),
        data=bytes_of(table),
        is_dense=True,
    )


def from_message(message: PointCloud2, spec: DescriptorSpec, topic: str = "features") -> Features:
    """Features of a message. Raises GraphError for other fields or truncated data."""
    kind = record(spec)
    layout = [(f.name, f.offset, f.datatype, f.count) for f in message.fields]
    if layout != [(f.name, f.offset, f.datatype, f.count) for f in fields(spec)]:
        raise GraphError(
            f"{topic}: fields {[f'{f.name}[{f.count}]' for f in message.fields]}, expected float32 u v score and "
            f"{spec.dtype} descriptor[{spec.length}]; give all nodes the same features"
        )
    count = message.width * message.height
    if message.point_step != kind.itemsize or len(message.data) < count * kind.itemsize:
        raise GraphError(
            f"{topic}: truncated: {len(message.data)} bytes for {count} points of {kind.itemsize} bytes; "
            "fix the publisher"
        )
    table = np.frombuffer(message.data, kind, count)
    return Features(*(np.ascontiguousarray(table[name]) for name in ("uv", "score", "descriptor")))
