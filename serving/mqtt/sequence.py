"""Order over a connection that comes and goes, without I/O: what the agent says to a device is numbered and kept for a while,
so that it can be said again; what a device says is put in order by the numbers it carries.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .topics import AudioPacket, Pcm

KEPT_BYTES = 4 << 20
"""About 95 s of speech at 22 kHz."""
MAX_GAP_MS = 2_000
"""Audio lost on the way that is filled with silence at most."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message of the agent."""

    seq: int
    topic: str
    payload: bytes


class OutLog:
    """Everything said to one device, from seq 1; the oldest is forgotten beyond `kept_bytes`, said or not."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._limit, self._bytes = kept_bytes, 0
        self._kept: deque[Said] = deque()
        self._last = 0
        self._next = 1  # what is to be sent next
        self.rewinds = 0
        """How often a device has asked for repetition."""

    @property
    def last_seq(self) -> int:
        """The number of the last message."""
        return self._last

    @property
    def is_sent(self) -> bool:
        """Whether nothing waits."""
        return self._next > self._last

    def add(self, topic: str, payload_of: Callable[[int], bytes]) -> int:
        """Say something; gives its number, which `payload_of` writes into it."""
        self._last += 1
        said = Said(self._last, topic, payload_of(self._last))
        self._kept.append(said)
        self._bytes += len(said.payload)
        while self._bytes > self._limit and len(self._kept) > 1:
            self._bytes -= len(self._kept.popleft().payload)
        return self._last

    def replace(self, seq: int, payload: bytes) -> None:
        """From now on, message `seq` says this, if it is still kept."""
        index = seq - (self._last - len(self._kept)) - 1
        if 0 <= index < len(self._kept):
            self._bytes += len(payload) - len(self._kept[index].payload)
            self._kept[index] = replace(self._kept[index], payload=payload)

    def due(self, limit: int) -> list[Said]:
        """The next messages to send, at most so many; they stay due until `sent`."""
        first = self._last - len(self._kept) + 1
        start = max(self._next - first, 0)
        return [self._kept[index] for index in range(start, min(start + limit, len(self._kept)))]

    def sent(self, last: Said, rewinds: int) -> None:
        """The broker has taken everything up to `last`. `rewinds` is what it was when that was asked for: a device that has
        asked for repetition meanwhile gets it."""
        if self.rewinds == rewinds:
            self._next = last.seq + 1

    def rewind(self, after_seq: int) -> bool:
        """Say everything after this number again; False if some of it is forgotten, and the rest is said."""
        first = self._last - len(self._kept) + 1
        self.rewinds += 1
        self._next = min(max(after_seq + 1, first), self._last + 1)
        return after_seq + 1 >= first


class AudioIn:
    """A device's stream in order: what is missing becomes silence, what comes twice is dropped."""

    def __init__(self) -> None:
        self._rate = self._expected = 0

    def take(self, packet: AudioPacket) -> Pcm:
        """int16 [m] that is new, m 0 for a repetition. A packet 0, or one of another rate, begins a new stream."""
        if packet.seq == 0 or packet.sample_rate != self._rate:
            self._rate, self._expected = packet.sample_rate, packet.first_sample
        missing = packet.first_sample - self._expected
        self._expected = max(self._expected, packet.first_sample + len(packet.pcm))
        if missing <= 0:
            return packet.pcm[-missing:] if missing else packet.pcm
        silence = np.zeros(min(missing, MAX_GAP_MS * self._rate // 1000), np.int16)
        return np.concatenate([silence, packet.pcm])


class Once:
    """Whether a numbered message is new; one without a number always is."""

    def __init__(self) -> None:
        self._last: int | None = None

    def is_new(self, seq: int | None) -> bool:
        """Asked once for each message."""
        if seq is None:
            return True
        if self._last is not None and seq <= self._last:
            return False
        self._last = seq
        return True


class Backoff:
    """How long to wait before the next attempt: doubling from `first_s` to `longest_s`, each shortened by up to a half at
    random, so that many clients do not come back in step."""

    def __init__(self, first_s: float = 0.5, longest_s: float = 30.0, chance: Callable[[], float] = random.random) -> None:
        self._first_s, self._longest_s, self._chance = first_s, longest_s, chance
        self._delay_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, self._longest_s)
        return delay_s * (1 - self._chance() / 2)

    def reset(self) -> None:
        """It has worked."""
        self._delay_s = self._first_s
