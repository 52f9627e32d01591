# SPDX-License-Identifier: Apache-2.0
"""Files that nobody vouches for: YAML of each sort, FIFOs, devices, names; one clean line each."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import CASES

from drp_slam import resources
from drp_slam.card import load_card
from drp_slam.chip.constants import load_constants
from drp_slam.config.config_file import load
from drp_slam.data.calibration import read_calibration
from drp_slam.errors import ConfigError, DrpSlamError

ODD = ["", ".nan", "-.inf", ".inf", "-1", "0", "1e999", "1e400000000", "~", "{}", "[]", "[[[[", "{{", "true", "'"]
ODD += ["!!python/name:os.system", "!!int x", "!!float ''", "!!timestamp x", "!!binary x", "2001-99-99", "*a", "\t"]
ODD += ["&a [*a]", "<<: 1", "? [a]\n: b", "%YAML 9.9\n---\n", "--- a\n--- b", "1:2:3", "\x00", "\ufffe"]
ODD += ["x" * 50_000, "9" * 5000, "[" * 2000]


def read_card(path: Path) -> Any:
    onnx = path.with_suffix(".onnx")
    onnx.touch()
    return load_card(str(onnx))


def read_constants(path: Path) -> Any:
    load_constants.cache_clear()
    return load_constants(str(path))


SHARE = resources.share()
YAMLS: dict[str, tuple[Path, Callable[[Path], Any]]] = {
    "config": (SHARE / "config" / "drp_slam.yaml", load),
    "camera": (SHARE / "config" / "cameras" / "tum_fr1.yaml", read_calibration),
    "device": (SHARE / "config" / "devices" / "rzv2h.yaml", read_constants),
    "card": (SHARE / "models" / "xfeat.yaml", read_card),
}


@pytest.mark.parametrize("name", YAMLS)
def test_damaged_yaml_is_refused_or_read_right(name, tmp_path):
    source, read = YAMLS[name]
    text, rng, refused, path = source.read_text(), random.Random(name), 0, tmp_path / "file.yaml"
    lines = [k for k, line in enumerate(text.splitlines()) if ":" in line and not line.lstrip().startswith("#")]
    for case in range(CASES):
        broken = text.splitlines()
        k, odd = rng.choice(lines), rng.choice(ODD)
        key, _, value = broken[k].partition(":")
        at = rng.randrange(len(text))
        broken[k] = rng.choice(
            [f"{key}: {odd}", f"{odd}: {value}", broken[k].replace("value: ", f"value: {odd} #"), odd]
        )
        whole = "\n".join(broken) if case % 3 else text[:at] + odd + text[at + rng.randrange(50) :]
        path.write_bytes(whole.encode(errors="surrogatepass") if case % 7 else b"\xff\xfe" + whole.encode())
        start = time.monotonic()
        try:
            read(path)
        except DrpSlamError as error:
            refused += 1
            assert len(str(error)) <= 1000 and "\n" not in str(error).strip()
        assert time.monotonic() - start < 5.0
    assert refused > CASES // 4


@pytest.mark.parametrize("name", YAMLS)
@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "loop", "huge", "utf-16", "bomb", "deep", "endless"])
def test_hostile_yaml_is_refused_at_once(name, kind, tmp_path):
    path = tmp_path / "file.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind in ("zero", "loop"):
        path.symlink_to("/dev/zero" if kind == "zero" else path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # sparse
    elif kind == "utf-16":
        path.write_bytes("a: ä".encode("utf-16"))
    elif kind == "bomb":
        rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
        path.write_text("\n".join(rows))
    elif kind == "deep":
        path.write_text("{a: " * 5000)
    else:
        path.write_text("a: &a {b: *a}")
    start = time.monotonic()
    with pytest.raises(DrpSlamError):
        YAMLS[name][1](path)
    assert time.monotonic() - start < 5.0


@pytest.mark.parametrize("name", ["a\x00b", "x" * 5000, "~nobody-of-that-name/file", "", "/proc/self/mem", "."])
def test_odd_names_are_refused_in_one_line(name):
    for read in (load_constants, load_card, read_calibration, load):
        with pytest.raises(DrpSlamError):
            read(name)


@pytest.mark.parametrize("text", ["1", "[1, 2]", "{a: 1}", "x", "1.5e3", "true"])
def test_plain_yaml_is_read(text):
    import yaml

    assert resources.parse_yaml(text, "here", ConfigError) == yaml.safe_load(text)


def test_a_device_with_a_constant_that_is_no_number_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    for value in (".nan", "-3", ".inf", "[]", "0"):
        shutil.copy(YAMLS["device"][0], path)
        text = path.read_text().replace("mac_clock: {value: ", f"mac_clock: {{value: {value} #\n", 1)
        lines = path.read_text().splitlines()
        k = next(k for k, line in enumerate(lines) if "unit: byte/s" in line or "unit: B/s" in line)
        head, _, rest = lines[k].partition("value: ")
        lines[k] = f"{head}value: {value}, {rest.partition(', ')[2]}"
        path.write_text("\n".join(lines))
        with pytest.raises(DrpSlamError, match="expected a number above 0"):
            read_constants(path)
        assert text
