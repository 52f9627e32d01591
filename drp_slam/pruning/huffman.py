# SPDX-License-Identifier: Apache-2.0
"""Canonical Huffman codes over small integers (Huffman 1952; the last step of Deep Compression).

A code is stored as one length per symbol; codes follow from the lengths in order of (length,
symbol). The mean length is less than one bit above the entropy of the symbols.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from drp_slam.errors import PruningError

MAX_BITS = 57


@dataclass(frozen=True)
class Coded:
    """`lengths` (symbols,) uint8, 0 = not used; `payload` the bits, first bit highest; `count`."""

    lengths: np.ndarray
    payload: bytes
    count: int

    @property
    def bits(self) -> int:
        """Bits of payload and of the table of lengths (6 bits a symbol)."""
        return 8 * len(self.payload) + 6 * len(self.lengths)


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Length of each symbol's code, uint8; 0 where it never occurs, 1 where it is the only one."""
    used = np.flatnonzero(counts)
    lengths = np.zeros(len(counts), np.uint8)
    if len(used) == 1:
        lengths[used] = 1
    if len(used) < 2:
        return lengths
    heap = [(int(counts[s]), order, [int(s)]) for order, s in enumerate(used)]
    heapq.heapify(heap)
    order = len(heap)
    while len(heap) > 1:
        few, _, left = heapq.heappop(heap)
        many, _, right = heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (few + many, order, left + right))
        order += 1
    return lengths


def _codes(lengths: np.ndarray) -> np.ndarray:
    """Canonical code words, uint64, in the low bits. Raises PruningError for impossible lengths."""
    codes = np.zeros(len(lengths), np.uint64)
    code = last = 0
    for symbol in _ordered(lengths):
        length = int(lengths[symbol])
        code <<= length - last
        last = length
        if length > MAX_BITS or code >= 1 << length:
            raise PruningError("the Huffman table is damaged: its lengths are not those of a code")
        codes[symbol] = code
        code += 1
    return codes


def _ordered(lengths: np.ndarray) -> np.ndarray:
    """Used symbols by length, then by value."""
    used = np.flatnonzero(lengths)
    return used[np.argsort(lengths[used], kind="stable")]


def encode(symbols: np.ndarray, alphabet: int) -> Coded:
    """Codes integers in [0, alphabet)."""
    lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
    codes, each = _codes(lengths)[symbols], lengths[symbols].astype(np.int64)
    bits = np.zeros(int(each.sum()), np.uint8)
    start = np.cumsum(each) - each
    for place in range(int(each.max(initial=0))):
        has = each > place
        shift = (each[has] - 1 - place).astype(np.uint64)
        bits[start[has] + place] = (codes[has] >> shift) & np.uint64(1)
    return Coded(lengths, np.packbits(bits).tobytes(), len(symbols))


def decode(coded: Coded) -> np.ndarray:
    """The symbols, int64. Raises PruningError where the payload is damaged or too short."""
    if not 0 <= coded.count <= 8 * len(coded.payload):  # a symbol takes a bit at least
        raise PruningError(f"{coded.count} symbols in {len(coded.payload)} bytes of coded data; the file is truncated")
    out = np.zeros(coded.count, np.int64)
    if not coded.count:
        return out
    _codes(coded.lengths)  # checks
    order = _ordered(coded.lengths)
    if not len(order):
        raise PruningError("the Huffman table is empty but symbols are expected; damaged file")
    per_length = np.bincount(coded.lengths[order], minlength=MAX_BITS + 2).tolist()
    bits = np.unpackbits(np.frombuffer(coded.payload, np.uint8)).tolist()
    symbols, place, total = order.tolist(), 0, len(bits)
    for n in range(coded.count):
        code = first = index = 0
        for length in range(1, MAX_BITS + 1):
            if place >= total:
                raise PruningError(f"the coded data end after {n} of {coded.count} symbols; the file is truncated")
            code |= bits[place]
            place += 1
            count = per_length[length]
            if code - first < count:
                out[n] = symbols[index + code - first]
                break
            index, first = index + count, (first + count) << 1
            code <<= 1
        else:
            raise PruningError("a code word of the coded data is not in the table; damaged file")
    return out
