# SPDX-License-Identifier: Apache-2.0
"""Opens a graph from an ONNX file, a shipped network's name, or a factory of a torch module."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from drp_slam.errors import PruningError
from drp_slam.pruning.onnxgraph import Graph

OPSET = 17


def read(source: str, shape: Sequence[int] | None = None) -> Graph:
    """From `file.onnx`, a shipped network's name, or `package.module:factory`.

    A factory returns a torch module; it is traced on `shape` (N, C, H, W). Raises PruningError for
    a file that cannot be read or is quantised, and for a factory that cannot be called or traced.
    """
    if ":" in source and not Path(source).is_file():
        return Graph(_traced(source, shape))
    from drp_slam import resources

    path = resources.network(source)
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own error types differ between versions
        raise PruningError(f"{path}: not an ONNX file: {str(error).splitlines()[0]}") from error
    try:
        return Graph(model)
    except PruningError as error:
        raise PruningError(f"{path}: {error}") from error


def _traced(source: str, shape: Sequence[int] | None) -> onnx.ModelProto:
    import io

    module_name, _, name = source.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PruningError(f"{source}: {error}; expected package.module:factory") from error
    try:
        made = factory()
    except Exception as error:  # foreign code may raise any error
        raise PruningError(f"{source} cannot be called without arguments: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise PruningError(f"{source} returns {type(made).__name__}, expected a torch.nn.Module")
    if shape is None:
        raise PruningError(f"{source}: the input's shape is needed to trace it; give --shape 1,C,H,W")
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecation notices
            torch.onnx.export(
                made.eval(),
                (torch.zeros(*shape),),
                buffer,  # type: ignore[arg-type]
                opset_version=OPSET,
                dynamo=False,
                input_names=["input"],
            )
    except Exception as error:  # traced foreign code may raise any error
        logging.getLogger(__name__).info("tracing failed", exc_info=True)
        raise PruningError(
            f"{source} cannot be traced on {tuple(shape)}: {str(error).strip().splitlines()[0]}"
        ) from error
    return onnx.load_from_string(buffer.getvalue())
