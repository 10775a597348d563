"""One utterance through a session's ears on a virtual clock: detector, recognizer, language model's cache, no reply.

The audio stands at the detector's 32 ms decisions. In a compute-unaware run every tick that is due runs at once; in a
compute-aware one the device does one thing at a time: a tick waits for it, one that would have to wait for longer than a
block is left out, and the next one hears more. The final pass is never left out. Ends of turns follow from silence alone
here, so the recognizer is measured and not the turn-taking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..agent.listener import Heard, Listener, ListeningSettings, Report
from ..agent.runtime import Runtime
from ..agent.turns import TurnSettings
from ..engine import Context, Entry
from ..models.checkpoint import Checkpoint
from ..models.whisper_full import FullWhisper
from ..streaming.clock import ms_to_samples
from ..streaming.commit_policy import FinalPass, PolicyName
from ..streaming.guards import word_starts
from ..streaming.interleaver import Interleaver
from .streaming_trace import Activity, CacheUse, DeviceClock, EndGuess, Kind, Pace, Part, Step, Trace, Turn

SOFT_END_SAMPLES, END_SAMPLES = ms_to_samples(TurnSettings().soft_end_silence_ms), ms_to_samples(640)
"""Silence after which the final pass runs, and after which the turn is over."""
SAME_VECTOR = 1e-4
BEHIND_SAMPLES = ms_to_samples(320)
"""A tick that would have to wait for longer is left out."""
PIECE_SAMPLES = 512

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Design:
    """A way to stream: a tick for every `blocks` encoder blocks, committed by `policy` (None: the recognizer's own), and what
    the final pass does with what was committed."""

    policy: PolicyName | None = None
    blocks: int = 1
    final_pass: FinalPass = "replace"

    def label(self, block_ms: int) -> str:
        """As in a table's head."""
        return f"{self.policy or 'default'}, {self.blocks * block_ms} ms" + (", kept" if self.final_pass == "keep" else "")


def block_ms(runtime: Runtime) -> int:
    """The length of an encoder block of the model; of a full encoder, the least new audio that makes a tick."""
    speech = runtime.checkpoint.speech
    if isinstance(speech, FullWhisper):
        return 320
    return speech.config.block_frames * speech.config.frame_samples // ms_to_samples(1)


class _Ears(Listener):
    """A listener that says where the open part of a long turn begins."""

    @property
    def open_start_samples(self) -> int:
        """In samples since the turn's start."""
        return self._turn.open_start_samples


def open_listener(runtime: Runtime, design: Design) -> _Ears:
    """Ears for one utterance."""
    settings = ListeningSettings(design.policy or ListeningSettings().policy, design.final_pass)
    return _Ears(runtime.engine, runtime.checkpoint, True, settings)


async def hear(runtime: Runtime, samples: Vector, design: Design, pace: Pace, *, guess_ends: bool = False) -> Trace:
    """What is said about float32 samples [n] at 16 kHz. With `guess_ends` P(end) is asked for after every commit; that costs
    nothing on the clock. An open turn ends with the samples."""
    context = runtime.engine.open_context()
    try:
        return await _Hearing(runtime, context, design, pace, guess_ends).run(samples)
    finally:
        runtime.engine.close_context(context)


@dataclass(slots=True)
class _OpenTurn:
    """What is noted of the running turn; `given` are the index, token and vector of all that ticks committed."""

    start_samples: int
    steps: list[Step] = field(default_factory=list)
    cache: list[CacheUse] = field(default_factory=list)
    given: list[tuple[int, int, Vector]] = field(default_factory=list)
    soft: bool = False
    silent_since: int | None = None
    end_samples: int = 0
    last_tick: int = 0


class _Hearing:
    def __init__(self, runtime: Runtime, context: Context, design: Design, pace: Pace, guess_ends: bool) -> None:
        self._context, self._pace, self._guess_ends = context, pace, guess_ends
        self._listener = open_listener(runtime, design)
        self._chat, self._checkpoint = runtime.checkpoint.chat, runtime.checkpoint
        self._interleaver = Interleaver(runtime.engine, context, runtime.checkpoint.chat, runtime.checkpoint.fusion)
        self._every_samples = (design.blocks - 1) * ms_to_samples(block_ms(runtime))
        self._clock = DeviceClock()
        self._turn: _OpenTurn | None = None
        self._turns: list[Turn] = []
        self._activity: list[Activity] = []
        self._guesses: list[EndGuess] = []
        self._skipped = self._late = self._now = 0
        self._behind_samples = 0

    async def run(self, samples: Vector) -> Trace:
        for at in range(0, len(samples), PIECE_SAMPLES):
            before = dict(self._listener.stages)
            for heard in self._listener.listen(samples[at : at + PIECE_SAMPLES]):
                self._now = heard.now_samples
                self._behind_samples = self._clock.free_samples - self._now
                self._clock.work(self._now, self._costs(before))
                await self._advance(heard)
                before = dict(self._listener.stages)
        if self._turn is not None:
            if not self._turn.soft:
                await self._soft_end(self._turn)
            await self._end(self._turn)
        seconds = {name: cost for name, cost in self._clock.seconds.items() if cost}
        return Trace(
            len(samples),
            tuple(self._turns),
            seconds,
            self._skipped,
            self._late,
            tuple(self._activity),
            tuple(self._guesses),
        )

    async def _advance(self, heard: Heard) -> None:
        self._activity.append(Activity(heard.now_samples, heard.probability, heard.speaking))
        if heard.speech_start is not None:
            self._begin_or_resume(heard.speech_start)
        turn = self._turn
        if turn is None:
            return
        if heard.speech_end is not None:
            turn.silent_since = heard.speech_end
        silence = 0 if turn.silent_since is None else self._now - turn.silent_since
        if not turn.soft and silence >= SOFT_END_SAMPLES:
            await self._soft_end(turn)
        elif turn.soft and silence >= END_SAMPLES:
            await self._end(turn)
        elif not turn.soft and self._listener.block_ready and self._now - turn.last_tick >= self._every_samples:
            await self._tick(turn)

    def _begin_or_resume(self, onset_samples: int) -> None:
        if self._turn is None:
            self._listener.open(onset_samples)
            self._turn = _OpenTurn(self._listener.start_samples, last_tick=self._now)
            self._rows_before = self._context.length + len(self._chat.user_open())
            return
        self._turn.silent_since = None
        if self._turn.soft:
            self._turn.soft = False
            self._note(self._turn, Kind.RESUME, self._now, self._clock.free_samples, self._listener.resume())

    async def _tick(self, turn: _OpenTurn) -> None:
        if self._pace is Pace.AWARE and self._behind_samples > BEHIND_SAMPLES:
            self._skipped += 1
            self._listener.skip_tick()
            return
        self._late += self._behind_samples > BEHIND_SAMPLES
        turn.last_tick = self._now
        before = dict(self._listener.stages)
        report = await self._listener.tick()
        done = self._clock.work(self._now, self._costs(before))
        if self._listener.tokens:
            synced = await self._interleaver.stream(self._listener.tokens, self._listener.vectors)
            self._clock.work(self._now, {"interleave": synced.seconds})
        self._note(turn, Kind.TICK, self._now, done, report)
        self._remember_vectors(turn, report)
        if self._guess_ends and self._listener.tokens:
            guess = await self._interleaver.complete(self._listener.tokens, self._listener.vectors)
            self._guesses.append(EndGuess(self._now, guess.p_end or 0.0))

    async def _soft_end(self, turn: _OpenTurn) -> None:
        turn.soft, turn.end_samples = True, self._now
        before = dict(self._listener.stages)
        report = await self._listener.finish()
        done = self._clock.work(self._now, self._costs(before))
        held = self._rows()
        if self._listener.tokens:
            synced = await self._interleaver.complete(self._listener.tokens, self._listener.vectors)
            done = self._clock.work(self._now, {"interleave": synced.seconds})
            self._guesses.append(EndGuess(self._now, synced.p_end or 0.0))
        now = self._rows()
        turn.cache.append(CacheUse(len(held), _same_rows(held, now), len(now)))
        self._note(turn, Kind.FINAL, self._now, done, report)

    async def _end(self, turn: _OpenTurn) -> None:
        final, tokens = self._vectors(), self._listener.tokens
        same = sum(
            index < len(final) and tokens[index] == token and bool(np.abs(final[index] - vector).max() <= SAME_VECTOR)
            for index, token, vector in turn.given
        )
        steps, cache = tuple(turn.steps), tuple(turn.cache)
        counts = (len(turn.given), same)
        drift = self._listener.drift
        self._turns.append(Turn(turn.start_samples, turn.end_samples, steps, cache, *counts, self._parts(turn), drift))
        await self._interleaver.drop()
        self._listener.close()
        self._turn = None

    def _parts(self, turn: _OpenTurn) -> tuple[Part, ...]:
        """How the turn is decoded offline: the session's cuts, each behind the end of what was said before it."""
        start, at, found = turn.start_samples, 0, list[Part]()
        for cut in self._listener.segments:
            found.append(Part(start + cut.start_samples, start + cut.end_samples, cut.prompt, cut.n_tokens))
            at += cut.n_tokens
        speech, prompt = self._checkpoint.speech, tuple[int, ...]()
        if at and not isinstance(speech, FullWhisper):
            most = min(int(self._checkpoint.config.get("carried_tokens", 0)), speech.config.max_prompt)
            prompt = carried(self._checkpoint, self._listener.tokens[:at], most)
        return (*found, Part(start + self._listener.open_start_samples, turn.end_samples, prompt))

    def _note(self, turn: _OpenTurn, kind: Kind, now: int, done: int, report: Report) -> None:
        """Turn the listener's report into a step."""
        before = turn.steps[-1] if turn.steps else None
        length = sum(step.added_tokens - step.retracted_tokens for step in turn.steps)
        added = retracted = 0
        values: Mapping[str, object] = {}
        for name, values in report:
            match name, values:
                case "TokensRetracted", {"to_index": int(to)}:
                    retracted = length - to
                case "TokensCommitted", {"tokens": tuple(tokens)}:
                    added = len(tokens)
                case _:
                    pass
        tentative = str(values.get("tentative", "")) if report and report[-1][0] == "Update" else ""
        committed = tuple(self._listener.text.split())
        done = max(done, now, before.done_samples if before else 0)
        turn.steps.append(Step(kind, now, done, committed, tuple(tentative.split()), added, retracted))

    def _remember_vectors(self, turn: _OpenTurn, report: Report) -> None:
        """Copies of the vectors that a tick gave out, beside their tokens."""
        vectors, tokens = self._vectors(), self._listener.tokens
        for name, values in report:
            start = values.get("start_index")
            if name == "TokensCommitted" and isinstance(start, int) and len(vectors) == len(tokens):
                turn.given += [(index, tokens[index], vectors[index].copy()) for index in range(start, len(tokens))]

    def _vectors(self) -> list[Vector]:
        return self._listener.vectors or []

    def _rows(self) -> tuple[Entry, ...]:
        """The turn's rows in the context."""
        return self._context.entries[self._rows_before :]

    def _costs(self, before: Mapping[str, float]) -> dict[str, float]:
        """What each stage has cost since."""
        return {name: max(0.0, cost - before.get(name, 0.0)) for name, cost in self._listener.stages.items()}


def carried(checkpoint: Checkpoint, tokens: Sequence[int], most: int) -> tuple[int, ...]:
    """The last of the tokens that a cut carries on as a prompt: at most `most`, from the beginning of a word on."""
    last = tuple(tokens[-most:]) if most else ()
    starts = word_starts(checkpoint.tokenizer.convert_ids_to_tokens(list(last)))
    return last[starts.index(True) if True in starts else 0 :]


def _same_rows(first: tuple[Entry, ...], second: tuple[Entry, ...]) -> int:
    same = 0
    while same < min(len(first), len(second)) and first[same].same_input(second[same]):
        same += 1
    return same
