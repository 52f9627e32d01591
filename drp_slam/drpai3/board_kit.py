# SPDX-License-Identifier: Apache-2.0
"""What a chip owner needs to compile a network for the board and to check what comes out.

The scripts are for the vendor's public toolchain (rzv_drp-ai_tvm 2.7, MERA 2). They were written
from its documentation and have not been run against a board by this project.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import replacing, write_text
from drp_slam.drpai3.emulator import session
from drp_slam.drpai3.execute import fixed_input, read_images
from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.reading import read_model
from drp_slam.errors import DrpAi3Error

EXPECTED = 10
"""Images whose outputs are kept."""

COMPILE = '''# SPDX-License-Identifier: Apache-2.0
"""Compiles network.onnx for RZ/V2H inside the container of rzv_drp-ai_tvm 2.7: python3 compile.py OUT."""

import glob
import os
import sys

import mera2
import mera2.drp
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
SHAPES = {shapes!r}
calibration = [{{name: np.load(path) for name in SHAPES}} for path in sorted(glob.glob(HERE + "/calibration/*.npy"))]
mod, params = mera2.from_onnx(
    HERE + "/network.onnx", shape=SHAPES, is_quant=False, cpu_data_type="float32", use_mera2=True
)
mera2.drp.build(
    mod,
    params,
    "arm",
    {{
        "target": "DrpAiQuant",
        "addr_map_start": 0x0,
        "toolchain_dir": os.environ["TRANSLATOR"],
        "sdk_root": os.environ["SDK"],
        "quantization_tool": os.environ["QUANTIZER"],
        "quantization_option": "--calibrate_method MinMax",
        "calibration_data": calibration,
    }},
    sys.argv[1],
)
'''

COMPARE = '''# SPDX-License-Identifier: Apache-2.0
"""Compares the board's outputs with the expected ones: python3 compare.py BOARD_DIR.

BOARD_DIR holds NN_K.npy, output K of image NN, as expected/ does. Needs numpy alone.
"""

import glob
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
LEAST_DB = 20.0
worst = np.inf
for path in sorted(glob.glob(HERE + "/expected/*.npy")):
    name = os.path.basename(path)
    found = os.path.join(sys.argv[1], name)
    if not os.path.isfile(found):
        sys.exit(found + ": missing; write output K of image NN as NN_K.npy")
    wanted, got = np.load(path).astype(np.float64), np.load(found).astype(np.float64)
    if wanted.size != got.size:
        sys.exit("%s: %s values, expected %s" % (found, got.size, wanted.size))
    error = got.reshape(wanted.shape) - wanted
    noise = (error ** 2).sum()
    db = 10 * np.log10((wanted ** 2).sum() / noise) if noise else np.inf
    worst = min(worst, db)
    print("%s: signal to noise %.1f dB, largest difference %.4g" % (name, db, abs(error).max()))
print("worst: %.1f dB" % worst)
sys.exit(0 if worst >= LEAST_DB else 1)
'''


def board_kit(
    graph: Graph, images: Path, out: Path, mean: Sequence[float], std: Sequence[float], bgr: bool
) -> dict[str, Any]:
    """Writes the kit to `out`. `mean` and `std` are of images in [0, 1], one a channel or one for all.

    Raises DrpAi3Error for a network with several inputs, one that is quantised already, or channels
    that the means do not fit.
    """
    if graph.int8:
        raise DrpAi3Error(f"{graph.path}: holds INT8; the vendor's toolchain quantises itself: give the FP32 network")
    if len(graph.inputs) != 1:
        raise DrpAi3Error(f"{graph.path}: {len(graph.inputs)} inputs; board-kit takes networks with one image")
    (name,) = graph.inputs
    shape = graph.shapes[name]
    pictures = read_images(images, shape)
    planes = [_per_channel(text, values, shape[1]) for text, values in (("--mean", mean), ("--std", std))]
    if not all(planes[1] > 0):
        raise DrpAi3Error(f"--std {' '.join(map(str, std))}, expected values above 0")
    inputs = [((p[:, ::-1] if bgr else p) - planes[0][:, None, None]) / planes[1][:, None, None] for p in pictures]
    model = fixed_input(read_model(graph.path), graph)
    network = model.SerializeToString()
    for folder in ("calibration", "expected"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    with replacing(out / "network.onnx", DrpAi3Error) as temporary:
        temporary.write_bytes(network)
    run = session(network)
    for n, tensor in enumerate(inputs):
        _save(out / "calibration" / f"{n:02d}.npy", tensor.astype(np.float32))
    for n, tensor in enumerate(inputs[:EXPECTED]):
        for k, output in enumerate(run.run(None, {name: tensor.astype(np.float32)})):
            _save(out / "expected" / f"{n:02d}_{k}.npy", output)
    processing = {
        "input": {"name": name, "shape": list(shape), "order": "BGR" if bgr else "RGB", "layout": "NCHW"},
        "preruntime": {
            "resize_w": shape[3],
            "resize_h": shape[2],
            "resize_alg": 1,
            "cof_add": [-255.0 * float(m) for m in planes[0]],
            "cof_mul": [1.0 / (255.0 * float(s)) for s in planes[1]],
        },
        "outputs": [{"index": k, "name": o, "shape": list(graph.shapes[o])} for k, o in enumerate(graph.outputs)],
        "source": "PreRuntime computes (in + cof_add) * cof_mul on 0..255; the expected outputs are FP32 onnxruntime's",
    }
    write_text(out / "processing.json", json.dumps(processing, indent=1) + "\n", DrpAi3Error)
    write_text(out / "compile.py", COMPILE.format(shapes={name: tuple(shape)}), DrpAi3Error)
    write_text(out / "compare.py", COMPARE, DrpAi3Error)
    return {
        "network": graph.name,
        "folder": str(out),
        "calibration": len(inputs),
        "expected": min(EXPECTED, len(inputs)),
    }


def _per_channel(option: str, values: Sequence[float], channels: int) -> np.ndarray:
    if len(values) not in (1, channels):
        raise DrpAi3Error(f"{option} has {len(values)} values, expected 1 or {channels}")
    return np.broadcast_to(np.asarray(values, np.float64), channels)


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path, DrpAi3Error) as temporary, temporary.open("wb") as file:
        np.save(file, array)
