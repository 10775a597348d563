"""The device's owner: contexts over a slab of slots, work items, packed steps, sampling, and the thread
that runs them."""

from .admission import Admission
from .context import Context, Entry
from .delivery import TokenStream
from .engine import Engine
from .sampler import GREEDY, Sampling
from .stats import EngineStats
from .work import (
    Append,
    Appended,
    Changed,
    Decode,
    Evict,
    Fork,
    Forked,
    Replay,
    SpeechDone,
    SpeechItem,
    SpeechModel,
    Token,
    Truncate,
    Urgency,
)

__all__ = [
    "GREEDY",
    "Admission",
    "Append",
    "Appended",
    "Changed",
    "Context",
    "Decode",
    "Engine",
    "EngineStats",
    "Entry",
    "Evict",
    "Fork",
    "Forked",
    "Replay",
    "Sampling",
    "SpeechDone",
    "SpeechItem",
    "SpeechModel",
    "Token",
    "TokenStream",
    "Truncate",
    "Urgency",
]
