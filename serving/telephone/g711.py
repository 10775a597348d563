"""G.711, the sound of telephones: µ-law and A-law bytes to samples and back, by tables that are computed once from the
definitions in ITU-T G.711. 8 kHz mono is what the callers make of it; nothing here knows about rates.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Law = Literal["mulaw", "alaw"]
Pcm = NDArray[np.int16]

_BIAS = 132
"""What µ-law adds to a magnitude before it takes the logarithm."""


def _mulaw_values() -> Pcm:
    code = ~np.arange(256, dtype=np.int64) & 0xFF
    magnitude = (((code & 0x0F) << 3) + _BIAS << (code >> 4 & 0x07)) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_values() -> Pcm:
    code = np.arange(256, dtype=np.int64) ^ 0x55
    segment = code >> 4 & 0x07
    mantissa = ((code & 0x0F) << 4) + 8
    magnitude = np.where(segment == 0, mantissa, mantissa + 256 << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_VALUES: dict[Law, Pcm] = {"mulaw": _mulaw_values(), "alaw": _alaw_values()}
_ORDERS = {law: np.argsort(values, kind="stable") for law, values in _VALUES.items()}


def _codes_of_all(law: Law) -> NDArray[np.uint8]:
    """For each of the 65,536 sample values, from the lowest, the byte whose value is nearest."""
    order = _ORDERS[law]
    values = _VALUES[law][order].astype(np.int64)
    middles = (values[:-1] + values[1:]) / 2
    nearest = np.searchsorted(middles, np.arange(-32768, 32768), side="right")
    return order[nearest].astype(np.uint8)


_CODES = {law: _codes_of_all(law) for law in _VALUES}


def decode(data: bytes, law: Law) -> Pcm:
    """Bytes [n] -> int16 [n]."""
    return _VALUES[law][np.frombuffer(data, np.uint8)]


def encode(pcm: Pcm, law: Law) -> bytes:
    """int16 [n] -> bytes [n], each the nearest value that the law has."""
    return _CODES[law][pcm.astype(np.int64) + 32768].tobytes()
