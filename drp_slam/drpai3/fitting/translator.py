# SPDX-License-Identifier: Apache-2.0
"""Reads the vendor translator's own estimate of a network and assigns its rows to layers.

The translator's summary has one row per operator in execution order: operator, kernel, stride,
padding, shapes and microseconds. `read_rows` reads it, `align` assigns its rows to the layers of a
graph. The translator ignores contention and bandwidth outside the accelerator, so its table is an
estimate, not a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drp_slam.drpai3.fitting.corpus import csv_rows
from drp_slam.drpai3.layers import Layer
from drp_slam.drpai3.subgraphs import Wiring
from drp_slam.errors import DataError

COLUMNS = ("operator", "kernel_w", "kernel_h", "stride", "in_h", "in_w", "in_c", "out_h", "out_w", "out_c", "time_us")
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "transpose", "cast_fp16_fp32", "cast_fp32_fp16")
"""Operators that the translator adds around those of the graph."""
KINDS = {
    "imagescaler": "imagescaler",
    "Focus": "Focus",
    "Conv": "Conv",
    "MaxPool": "MaxPool",
    "Add": "Add",
    "Concat": "Concat (NOP)",
    "Resize": "Resize",
    "result": "results (dequantise, transpose, cast)",
}


@dataclass(frozen=True)
class TableRow:
    """One row of the translator's table; `in_hwc` and `out_hwc` are (height, width, channels)."""

    number: int
    operator: str
    kernel: tuple[int, int]
    stride: int
    in_hwc: tuple[int, int, int]
    out_hwc: tuple[int, int, int]
    time_us: float


@dataclass(frozen=True)
class Group:
    """Rows of the translator for one operator of the graph, and its layers (by number).

    `kind` is a value of `KINDS`. `outputs` names the network results that the rows convert.
    """

    kind: str
    rows: tuple[TableRow, ...]
    layers: tuple[int, ...]
    outputs: tuple[str, ...] = ()

    @property
    def vendor_us(self) -> float:
        return sum(row.time_us for row in self.rows)


def read_rows(path: Path) -> list[TableRow]:
    """The rows of a translator table (CSV). Raises DataError with the file, line and remedy."""
    found = []
    for line, row in enumerate(csv_rows(path, "give the translator's table as CSV"), 2):
        try:
            n = {name: row[name] if name == "operator" else float(row[name]) for name in COLUMNS}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: line {line}: cannot read {error}; the columns are {', '.join(COLUMNS)}, numbers but the first"
            ) from None
        i, o = (tuple(int(n[f"{side}_{axis}"]) for axis in "hwc") for side in ("in", "out"))
        kernel = (int(n["kernel_h"]), int(n["kernel_w"]))
        found.append(TableRow(line - 2, str(n["operator"]), kernel, int(n["stride"]), i, o, float(n["time_us"])))  # type: ignore[arg-type]
    if not found:
        raise DataError(f"{path}: holds no rows; the columns are {', '.join(COLUMNS)}")
    return found


def _hwc(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[2:], shape[1]) if len(shape) == 4 else tuple(shape)


class _Open:
    """Layers not yet assigned to a row."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers, self.left = layers, dict.fromkeys(range(len(layers)))

    def take(self, op: str, out_hwc: tuple[int, ...], row: TableRow | None = None) -> int | None:
        """The first open layer of this operator and output shape; with `row`, of its kernel, stride
        and input too."""
        for n in self.left:
            layer = self.layers[n]
            if layer.op != op or _hwc(layer.out_shape) != out_hwc:
                continue
            attributes = layer.node.attributes
            if row is not None and (
                _hwc(layer.in_shape) != row.in_hwc
                or tuple(attributes.get("kernel_shape", row.kernel)) != row.kernel
                or next(iter(attributes.get("strides", [row.stride]))) != row.stride
            ):
                continue
            del self.left[n]
            return n
        return None


def align(rows: Sequence[TableRow], layers: Sequence[Layer], wires: Wiring) -> list[Group]:
    """Every row in exactly one group, in execution order.

    NOP rows are the copies of the concatenation or addition whose output they have; conversions
    around a resizing belong to it, those of a network output are its conversion for the CPU. Layers
    without a row are omitted; a group without layers has no counterpart in the graph.
    """
    free, groups, n = _Open(layers), [], 0
    outputs = [(name, _hwc(layers[wires.producer[name]].out_shape)) for name in sorted(wires.results)]
    while n < len(rows):
        row, end = rows[n], n + 1
        while end < len(rows) and _continues(rows, n, end):
            end += 1
        part = tuple(rows[n:end])
        names = {r.operator for r in part}
        main = (
            part[-1].operator
            if part[-1].operator == "Add"
            else next((o for o in ("Focus", "Resize", "Conv", "MaxPool", "imagescaler") if o in names), row.operator)
        )
        found: list[int | None] = []
        results: tuple[str, ...] = ()
        if main in ("Conv", "MaxPool"):
            found = [free.take(main, row.out_hwc, row)]
        elif main in ("Add", "Resize"):
            found = [free.take(main, next(r.out_hwc for r in part if r.operator == main))]
        elif main == "NOP":
            main, found = "Concat", [free.take("Concat", row.out_hwc)]
        elif main == "Focus":
            joined = free.take("Concat", row.out_hwc)
            slices = [wires.producer.get(i) for i in wires.source(layers[joined])] if joined is not None else []
            found = [*slices, joined]
        elif main in CONVERSIONS:
            main = "result"
            results = tuple(name for name, shape in outputs if shape == row.out_hwc)[:1]
            outputs = [o for o in outputs if o[0] not in results]
        groups.append(Group(KINDS.get(main, main), part, tuple(f for f in found if f is not None), results))
        n = end
    return groups


def _continues(rows: Sequence[TableRow], start: int, n: int) -> bool:
    """Whether row n belongs to the group that row `start` opens."""
    first, before, row = rows[start], rows[n - 1], rows[n]
    if first.operator == "NOP":
        copies = row.operator == "NOP" and row.out_hwc == first.out_hwc
        return before.operator == "NOP" and (copies or (row.operator == "Add" and first.in_hwc == first.out_hwc))
    if first.operator == "Focus":
        return row.operator == "QuantizeLinear" and row.in_hwc == first.out_hwc
    if first.operator in CONVERSIONS:
        if row.operator == "Resize" or before.operator == "Resize":
            return row.in_hwc == before.out_hwc and row.operator in (*CONVERSIONS, "Resize")
        return row.operator in CONVERSIONS and row.in_hwc == before.out_hwc
    return False
