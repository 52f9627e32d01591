# SPDX-License-Identifier: Apache-2.0
"""Writes the files needed to compile a network for a board and to check its outputs.

The scripts are for the vendor's public toolchain (rzv_drp-ai_tvm 2.7, MERA 2). They were written
from its documentation and have not been run against a board by this project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import replacing, write_bytes, write_text
from drp_slam.drpai3.emulator import session
from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.quantize_undo import float_form
from drp_slam.drpai3.samples import Preprocessing, read_samples
from drp_slam.errors import DrpAi3Error

EXPECTED = 10
"""Number of images with expected outputs."""

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


def board_kit(graph: Graph, images: Path, out: Path, how: Preprocessing) -> dict[str, Any]:
    """Writes the kit to `out`; `how` is the preprocessing of the images.

    The vendor's toolchain quantises itself: of an INT8 network, the float form is written. Raises
    DrpAi3Error for a network with several inputs, or images of another size.
    """
    if len(graph.inputs) != 1:
        raise DrpAi3Error(f"{graph.path}: {len(graph.inputs)} inputs; board-kit takes networks with one image")
    (name,) = graph.inputs
    shape = graph.shapes[name]
    samples = read_samples(images, {name: shape}, {name: np.dtype(np.float32)}, how)
    model = float_form(graph.model()) if graph.int8 else graph.model()
    network = model.SerializeToString()
    for folder in ("calibration", "expected"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_bytes(out / "network.onnx", network, DrpAi3Error)
    run = session(network)
    for n, sample in enumerate(samples):
        _save(out / "calibration" / f"{n:02d}.npy", sample[name])
    for n, sample in enumerate(samples[:EXPECTED]):
        for k, output in enumerate(run.run(None, sample)):
            _save(out / "expected" / f"{n:02d}_{k}.npy", output)
    processing = {
        "input": {"name": name, "shape": list(shape), "order": "BGR" if how.bgr else "RGB"},
        "preruntime": {
            "resize_alg": 1,
            "cof_add": [-m / how.scale for m in how.mean],
            "cof_mul": [how.scale / s for s in how.std],
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
        "calibration": len(samples),
        "expected": min(EXPECTED, len(samples)),
    }


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path, DrpAi3Error) as temporary, temporary.open("wb") as file:
        np.save(file, array)
