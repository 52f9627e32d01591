# SPDX-License-Identifier: Apache-2.0
"""Networks with published board latencies: an index with its graphs, read into compact samples.

The folder holds `index.csv` (at least `id`, `published_ms`; `published_precision_ms`, `family`,
`sw_version`, `published_model` if known) and `graphs/<id>.onnx.gz` or `.onnx`. Weights of such
graphs may be constant fills: they are taken as dense.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.chip.constants import Constants
from drp_slam.drpai3 import placement, subgraphs, timing
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.layers import Layer, layers
from drp_slam.drpai3.order import chain_first
from drp_slam.drpai3.packed_layers import prunable, share_of_rows, weight_bytes
from drp_slam.errors import DataError, DrpAi3Error

PAIR_PREFIX = "docs-site "
"""Name that the index gives to dense members of dense and pruned pairs."""


@dataclass(frozen=True)
class Published:
    """One published latency. `precision_s` is the unit of its last digit."""

    name: str
    family: str
    latency_s: float
    precision_s: float
    release: float
    model: str

    @property
    def call(self) -> bool:
        """Whether the figure includes the call of the runtime: pairs are published for the network alone
        ("CNN"), and lie below the list's figures of the same networks."""
        return not self.model.startswith(PAIR_PREFIX)


@dataclass(frozen=True)
class Sample:
    """A network without its weights: what placement and timing need. `table` is dense.

    `share` is the share of the weights that remain (1: dense), as rows N/M of each group.
    """

    published: Published
    layers: tuple[Layer, ...]
    wires: subgraphs.Wiring
    tags: tuple[str, ...]
    table: timing.Table
    sizes: Mapping[str, int]
    share: float = 1.0
    placed: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def rules(self) -> frozenset[str]:
        """Tags whose rules can change where its layers run."""
        return frozenset(self.tags) | placement.MIXED


def csv_rows(path: Path, remedy: str) -> list[dict[str, str]]:
    """The rows of a CSV file by column name. Raises DataError with the remedy if it cannot be read."""
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read: {error}; {remedy}") from error


def read_index(folder: Path) -> list[Published]:
    """The rows of `index.csv`. Raises DataError that names the file, the line, the remedy."""
    path = folder / "index.csv"
    found = []
    for line, row in enumerate(csv_rows(path, "give a folder with index.csv"), 2):
        try:
            latency_ms = float(row["published_ms"])
            precision_ms = float(row.get("published_precision_ms") or 1.0)
            name = row["id"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: line {line}: needs id and published_ms (a number): {error!r}") from error
        if not latency_ms > 0:
            raise DataError(f"{path}: line {line}: published_ms is {latency_ms}, expected > 0")
        found.append(
            Published(
                name,
                row.get("family") or name,
                latency_ms * 1e-3,
                precision_ms * 1e-3,
                release_of(row.get("sw_version") or ""),
                row.get("published_model") or name,
            )
        )
    if not found:
        raise DataError(f"{path}: holds no rows")
    return found


def with_latencies(rows: Sequence[Published], path: Path, column: str) -> list[Published]:
    """The rows listed in another chip's table, with that chip's latencies (ms, by `id`). Raises DataError."""
    table = csv_rows(path, f"give a table with id and {column}")
    try:
        known = {row["id"]: float(row[column]) * 1e-3 for row in table if row[column]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot read: {error!r}; it needs id and {column}, whole milliseconds") from error
    return [replace(row, latency_s=known[row.name], precision_s=1e-3) for row in rows if row.name in known]


def release_of(version: str) -> float:
    """TVM release in a text such as `TVM v2.7.0, ...`; 2.4 for another text."""
    match = re.search(r"v(\d+\.\d+)", version)
    if match:
        return float(match.group(1))
    return 2.4 if version else placement.NEW_RELEASE


def read_sample(folder: Path, row: Published, c: Constants) -> Sample:
    """The graph of one row. Raises DataError if it is missing, DrpAi3Error if it is invalid."""
    paths = [folder / "graphs" / f"{row.name}{end}" for end in (".onnx.gz", ".onnx")]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise DataError(f"{paths[0]}: no such graph; the index names it")
    return sample_of(row, path, c)


def sample_of(row: Published, path: Path, c: Constants) -> Sample:
    """A network file with its published latency. Raises DrpAi3Error if it is invalid."""
    graph = load(path)
    work = chain_first(graph, layers(graph))
    wires = subgraphs.wiring(graph, work)
    tags = subgraphs.find(graph, work, wires)
    cycles = np.array([timing.dense_cycles(layer, c) for layer in work])
    stored = np.array([weight_bytes(layer, c) for layer in work])
    sizes = {name: math.prod(graph.shapes[name]) for name in wires.buffer.values()}
    return Sample(row, work, wires, tuple(tags), timing.table(work, tags, cycles, stored), sizes)


def read_corpus(
    folder: Path,
    rows: Sequence[Published],
    c: Constants,
    progress: Callable[[str], None] = lambda name: None,
    skipped: list[str] | None = None,
) -> list[Sample]:
    """The samples of these rows. A graph that cannot be read raises, or if `skipped` is given adds
    its error to that list; DataError if none is left."""
    samples = []
    for row in rows:
        progress(row.name)
        try:
            samples.append(read_sample(folder, row, c))
        except DrpAi3Error as error:
            if skipped is None:
                raise
            skipped.append(str(error))
    if not samples:
        raise DataError(f"{folder}: no graph can be read; the first: {(skipped or ['none'])[0]}")
    return samples


@dataclass(frozen=True)
class Pair:
    """A dense and a pruned measurement of one network, as published."""

    model: str
    sparsity: float
    dense_s: float
    pruned_s: float


def read_pairs(path: Path) -> list[Pair]:
    """Rows of a table like `pruning_speedup.csv`. Raises DataError."""
    rows = csv_rows(path, "give a table of dense and pruned latencies")
    try:
        return [
            Pair(
                row["model"],
                float(row["pruning_rate"].rstrip("%")) / 100,
                float(row["dense_cnn_ms"]) * 1e-3,
                float(row["pruned_cnn_ms"]) * 1e-3,
            )
            for row in rows
        ]
    except (KeyError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot read the pairs: {error!r}; it needs model, pruning_rate, dense_cnn_ms and pruned_cnn_ms"
        ) from error


def pruned(sample: Sample, pair: Pair, c: Constants) -> Sample:
    """The sample with every prunable layer pruned to the pair's rate, balanced over each group."""
    share = share_of_rows(pair.sparsity, "balanced", int(c["drpai3.group_rows"]), int(c["drpai3.parallel_columns"]))
    can = np.array([prunable(layer) for layer in sample.layers])
    weights = np.where(can, min(1.0, 1.5 * share), 1.0)
    row = replace(
        sample.published, name=f"{sample.published.name}@{pair.sparsity:.0%}", latency_s=pair.pruned_s, precision_s=1e-4
    )
    table = timing.scaled(sample.table, np.where(can, share, 1.0), weights)
    return replace(sample, published=row, table=table, share=share, placed={})


def with_pairs(samples: list[Sample], pairs: list[Pair], c: Constants) -> list[Sample]:
    """The samples and, after each dense member of a pair, its pruned twin."""
    out = []
    for sample in samples:
        out.append(sample)
        for pair in pairs:
            if sample.published.model.startswith(PAIR_PREFIX + pair.model):
                out.append(pruned(sample, pair, c))
    return out
