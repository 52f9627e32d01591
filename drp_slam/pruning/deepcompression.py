# SPDX-License-Identifier: Apache-2.0
"""Deep Compression as a file: pruned weights, shared values, relative indices, Huffman codes.

Han, Mao, Dally, ICLR 2016 (arXiv:1510.00149). Per layer: the non-zero weights become indices
into a codebook (section 3; `sharing`), the gaps between them
are stored in `gap_bits` bits with filler zeros where a gap is longer (section 2, 8 bits for
convolutions and 5 for fully connected layers), and both streams are Huffman coded (section 5).
Biases and everything else are kept as float32.

    "DSDC" | uint32 length of header | JSON header | sections, in the header's order | sha-256

`decode(encode(weights))` gives the shared weights bit for bit.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drp_slam.errors import PruningError
from drp_slam.pruning import huffman
from drp_slam.pruning.sharing import Shared

MAGIC = b"DSDC"
CONV_GAP_BITS, LINEAR_GAP_BITS = 8, 5
MOST_WEIGHTS = 2**26
"""Largest tensor of a file: zeros take no space in the file, but in memory."""


def gaps(flat: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Zeros before each entry, and which weight it is (-1 = filler); no gap exceeds 2**bits - 1."""
    top = 2**bits - 1
    places = np.flatnonzero(flat)
    jump = np.diff(places, prepend=-1) - 1
    fillers = jump // (top + 1)
    last = np.cumsum(fillers + 1) - 1
    found = np.full(int((fillers + 1).sum()), top, np.int64)
    owner = np.full(len(found), -1, np.int64)
    found[last] = jump - fillers * (top + 1)
    owner[last] = np.arange(len(places))
    return found, owner


@dataclass(frozen=True)
class Sizes:
    """Bytes of the file and of the dense float32 network, and the bits of each part."""

    dense_bytes: int
    file_bytes: int
    weight_bits: int
    index_bits: int
    codebook_bits: int

    @property
    def ratio(self) -> float:
        """Compression ratio."""
        return self.dense_bytes / self.file_bytes


def encode(tensors: Mapping[str, np.ndarray], shared: Mapping[str, Shared]) -> tuple[bytes, Sizes]:
    """The file of a network: `tensors` (all of its state), of which those in `shared` are compressed.

    A shared tensor's non-zeros must be in the order of its `index`. Raises PruningError.
    """
    header: list[dict] = []
    body, bits = b"", {"weight": 0, "index": 0, "codebook": 0}
    for name, tensor in tensors.items():
        if name in shared:
            entry, data = _encode_shared(name, tensor, shared[name], bits)
        else:
            plain = tensor.astype(np.float32) if tensor.dtype.kind == "f" else tensor
            data = np.ascontiguousarray(plain).tobytes()
            entry = {"kind": "plain", "dtype": plain.dtype.str, "bytes": len(data)}
        header.append({"name": name, "shape": list(tensor.shape), **entry})
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    blob = MAGIC + len(text).to_bytes(4, "little") + text + body
    blob += hashlib.sha256(blob).digest()
    dense = sum(4 * t.size for t in tensors.values())
    return blob, Sizes(dense, len(blob), bits["weight"], bits["index"], bits["codebook"])


def _encode_shared(name: str, tensor: np.ndarray, shared: Shared, bits: dict[str, int]) -> tuple[dict, bytes]:
    flat = tensor.reshape(-1)
    if np.count_nonzero(flat) != len(shared.index):
        raise PruningError(
            f"{name} has {np.count_nonzero(flat)} non-zero weights but "
            f"{len(shared.index)} indices; share its values again"
        )
    gap_bits = CONV_GAP_BITS if tensor.ndim == 4 else LINEAR_GAP_BITS
    jump, owner = gaps(flat, gap_bits)
    k = len(shared.codebook)
    symbols = np.append(shared.index, k)[owner]  # -1 -> k, the filler zero
    weight, index = huffman.encode(symbols, k + 1), huffman.encode(jump, 2**gap_bits)
    bits["weight"] += weight.bits
    bits["index"] += index.bits
    bits["codebook"] += 32 * k
    parts = [
        shared.codebook.astype("<f4").tobytes(),
        _lengths(weight.lengths),
        weight.payload,
        _lengths(index.lengths),
        index.payload,
    ]
    entry = {"kind": "shared", "k": k, "count": len(jump), "gap_bits": gap_bits, "bytes": [len(p) for p in parts]}
    return entry, b"".join(parts)


def _lengths(lengths: np.ndarray) -> bytes:
    """Code lengths at 6 bits each."""
    bits = np.unpackbits(lengths[:, None], axis=1)[:, 2:]
    return np.packbits(bits.ravel()).tobytes()


def _unlengths(data: bytes, count: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))[: 6 * count].reshape(count, 6)
    return np.packbits(np.pad(bits, ((0, 0), (2, 0))), axis=1)[:, 0]


def decode(blob: bytes) -> dict[str, np.ndarray]:
    """The tensors, bit for bit. Raises PruningError for a damaged or another kind of file."""
    if blob[:4] != MAGIC:
        raise PruningError("not a Deep Compression file (it does not begin with DSDC)")
    if hashlib.sha256(blob[:-32]).digest() != blob[-32:]:
        raise PruningError("the Deep Compression file is damaged or truncated (checksum differs)")
    size = int.from_bytes(blob[4:8], "little")
    try:
        return _decoded(json.loads(blob[8 : 8 + size]), io.BytesIO(blob[8 + size : -32]))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise PruningError(f"the Deep Compression file is invalid: {' '.join(repr(error).split())[:200]}") from error


def _decoded(header: list[dict], body: io.BytesIO) -> dict[str, np.ndarray]:
    """The tensors. Raises PruningError, or an error of numpy for inconsistent sizes."""
    found = {}
    for entry in header:
        shape = [int(n) for n in entry["shape"]]
        if min(shape, default=0) < 0 or math.prod(shape) > MOST_WEIGHTS:
            raise PruningError(f"a tensor of shape {str(shape)[:80]}: expected at most {MOST_WEIGHTS} weights")
        if entry["kind"] == "plain":
            tensor = np.frombuffer(_part(body, entry["bytes"]), entry["dtype"]).copy()
        else:
            tensor = _decode_shared(entry, math.prod(shape), [_part(body, length) for length in entry["bytes"]])
        found[str(entry["name"])] = tensor.reshape(shape)
    return found


def _part(body: io.BytesIO, length: int) -> bytes:
    data = body.read(length) if length >= 0 else b""
    if len(data) != length:
        raise PruningError(f"a section of {length} bytes does not fit into the Deep Compression file")
    return data


def _decode_shared(entry: dict, size: int, parts: list[bytes]) -> np.ndarray:
    k, count = int(entry["k"]), int(entry["count"])
    if not (0 <= k <= MOST_WEIGHTS and 0 <= entry["gap_bits"] <= 16):
        raise PruningError(f"a codebook of {k} values and gaps of {entry['gap_bits']} bits: expected at most 16 bits")
    book = np.append(np.frombuffer(parts[0], "<f4"), np.float32(0))
    symbols = huffman.decode(huffman.Coded(_unlengths(parts[1], k + 1), parts[2], count))
    jump = huffman.decode(huffman.Coded(_unlengths(parts[3], 2 ** entry["gap_bits"]), parts[4], count))
    flat = np.zeros(size, np.float32)
    flat[np.cumsum(jump + 1) - 1] = book[symbols]
    return flat
