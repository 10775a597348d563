"""What the engine has done so far, for metrics and benchmarks: counters that only the engine's thread
writes."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot. `rows` ran in `steps` forwards of the backbone; `speech_items` in `speech_batches` calls
    of the speech model. `seconds` and `items` are by kind of work (append, decode, replay, encode, ...);
    `queued` waits or runs now. `slots_taken` of `slots` places for sessions and branches are held;
    `evicted` contexts left their cache to others and were or will be replayed. `tick_ms` is how far apart
    ticks of live sessions are to be now, and `stretched_s` for how long that was more than a block;
    `capacity` says how many sessions the measured costs leave room for, None as long as nobody asks."""

    steps: int
    rows: int
    speech_batches: int
    speech_items: int
    failed: int
    seconds: dict[str, float]
    items: dict[str, int]
    queued: int
    slots: int
    slots_taken: int
    refused: int
    evicted: int = 0
    tick_ms: int = 320
    stretched_s: float = 0.0
    capacity: int | None = None


class Counters:
    """The running totals behind `EngineStats`."""

    def __init__(self) -> None:
        self.steps = 0
        self.rows = 0
        self.speech_batches = 0
        self.speech_items = 0
        self.failed = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.items: Counter[str] = Counter()


now = time.perf_counter
