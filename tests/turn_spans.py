"""What a session's ears take for the user's turns: the detector, the silence of a soft end, the pre-roll."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from textpro.agent.listener import PRE_ROLL_MS
from textpro.streaming.clock import ms_to_samples
from textpro.streaming.vad import SpeechDetector, SpeechEnd, SpeechStart, VadDecision

Samples = NDArray[np.float32]
Span = tuple[int, int]
SOFT_END, TURN_END = ms_to_samples(200), ms_to_samples(640)
FRAME = 160
LONGEST_GAP = 20
AUDIBLE_DB = 30


def turn_spans(samples: Samples, piece: int = 512) -> list[Span]:
    """Samples that the recognizer is given for each turn: from the pre-roll to the last soft end. Speech that comes within
    the silence that ends a turn belongs to it, with all that lies between."""
    detector, spans = SpeechDetector(), list[Span]()
    start: int | None = None
    silent_since: int | None = None
    now = soft_end = ended = 0
    for at in range(0, len(samples), piece):
        for event in detector.push(samples[at : at + piece]):
            match event:
                case VadDecision():
                    now = event.end_samples
                case SpeechStart():
                    silent_since = None
                    if start is None:
                        start = max(0, ended, event.at_samples - ms_to_samples(PRE_ROLL_MS))
                case SpeechEnd():
                    silent_since = event.at_samples
            silence = 0 if silent_since is None else now - silent_since
            if start is not None and silence >= SOFT_END:
                soft_end = soft_end or now
                if silence >= TURN_END:
                    spans.append((start, soft_end))
                    start, soft_end, ended = None, 0, soft_end
            else:
                soft_end = 0
    return spans if start is None else [*spans, (start, soft_end or now)]


def speech_spans(samples: Samples) -> list[Span]:
    """What the detector itself takes for speech, without pre-roll and tail."""
    found = [event for event in SpeechDetector().push(samples) if not isinstance(event, VadDecision)]
    starts = [event.at_samples for event in found if isinstance(event, SpeechStart)]
    ends = [event.at_samples for event in found if isinstance(event, SpeechEnd)]
    return list(zip(starts, [*ends, len(samples)], strict=False))


def clipped_samples(spoken: Span, spans: Sequence[Span]) -> int:
    """Samples of `spoken` that lie outside of the span which holds most of it."""
    begin, end = spoken
    held = max((min(end, stop) - max(begin, start) for start, stop in spans), default=0)
    return (end - begin) - max(held, 0)


def audible_span(samples: Samples) -> Span:
    """First and one past the last sample of the 10 ms frames within 30 dB of the loudest. What silence of 200 ms parts from
    the most of it does not belong to it: no digit has such a gap, and recordings have clicks."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    level_db = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
    (audible,) = np.nonzero(level_db > level_db.max() - AUDIBLE_DB)
    groups = np.split(audible, np.flatnonzero(np.diff(audible) > LONGEST_GAP) + 1)
    longest = max(groups, key=len)
    return int(longest[0]) * FRAME, (int(longest[-1]) + 1) * FRAME
