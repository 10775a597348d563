"""The single checks of `verify`, each with what was measured beside its tolerance. Parity is counted over all sounds that were
played: what the streaming runtime made of a turn against plain transformers on the same samples and on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch

from ..agent import events
from ..models.checkpoint import Checkpoint
from ..models.presets import PRESETS, gigabytes
from ..models.text import normalize_typed
from ..models.whisper_full import FullWhisper
from ..streaming.clock import SAMPLES_PER_MS
from .recognition import word_errors
from .verify_plain import PlainReply, PlainRow, plain_reply, plain_turn, plain_user_rows
from .verify_talk import Played, Sound

Status = Literal["ok", "not ok", "not run"]
REPLY_GAP = {torch.float32: 1e-3}
VECTOR_ERROR = {torch.float32: 1e-4}
HALF_REPLY_GAP, HALF_VECTOR_ERROR = 0.5, 0.05
"""In bf16 and fp16, whose scores near 30 stand 0.125 or more apart."""
ROOM_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `detail` says what failed, or why it was not run."""

    name: str
    status: Status
    measured: str
    tolerance: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """The tolerances that depend on the machine and on who speaks."""

    word_error_rate: float = 0.35
    first_token_ms: float = 1_500.0
    realtime_factor: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One turn both ways. `fault` says why there is nothing to compare; `vector_error` is over the vectors' RMS, None
    without vectors; `template` None where the tokenizer has none; `gap` is how far the runtime's first other reply token is
    below the best one by plain scores, 0 for equal replies."""

    label: str
    fault: str = ""
    words: bool = False
    vector_error: float | None = None
    template: bool | None = None
    gap: float = 0.0
    equal_reply: bool = False


def not_run(name: str, why: str) -> Check:
    """A check that could not be made."""
    return Check(name, "not run", "", "", why)


def judged(name: str, passed: bool, measured: str, tolerance: str, detail: str = "") -> Check:
    """A check that was made."""
    return Check(name, "ok" if passed else "not ok", measured, tolerance, "" if passed else detail)


def compare(checkpoint: Checkpoint, played: Played, max_tokens: int) -> Compared:
    """The last turn of a sound, as the runtime took it and by plain transformers."""
    label = played.sound.label
    start, eager, end = played.last(events.TurnStart), played.last(events.EagerTurnEnd), played.last(events.TurnEnd)
    if (failed := played.last(events.Failed)) is not None:
        return Compared(label, f"the session failed: {failed.reason}")
    if start is None or eager is None or end is None:
        dropped = played.last(events.TurnDropped)
        return Compared(label, "no turn was heard" if dropped is None else f"the turn was dropped: {dropped.reason}")
    samples = played.sound.samples[start.start_ms * SAMPLES_PER_MS : eager.t_ms * SAMPLES_PER_MS]
    plain = plain_turn(checkpoint, samples)
    chat, rows = checkpoint.chat, _rows(played)
    opening = (*chat.opening(chat.default_system or ""), *chat.user_open())
    user = plain_user_rows(checkpoint.heard_ids(plain.tokens), plain.vectors, checkpoint.fusion)
    expected = [*opening, *user, *chat.reply_open()]
    behind = _behind(rows, chat.reply_open(), len(opening))
    words, error = _same_rows(rows[:behind], expected)
    reply = plain_reply(checkpoint, rows[:behind], max_tokens)
    equal, gap = _same_reply(rows[behind:], reply, max_tokens)
    return Compared(label, "", words, error, _like_template(checkpoint, rows[:behind], end.text), gap, equal)


def check_weights(checkpoint: Checkpoint, model: str) -> Check:
    """Every weight is a finite number, and a preset has as many as its architecture."""
    named = list(_everything(checkpoint))
    broken = [name for name, tensor in named if not bool(torch.isfinite(tensor).all())]
    count = sum(tensor.numel() for _, tensor in named)
    expected = PRESETS[model].parameters if model in PRESETS and PRESETS[model].repositories else None
    fits = expected is None or math.isclose(count, expected, rel_tol=0.01)
    detail = (
        f"not finite: {', '.join(broken[:8])}" if broken else f"{count:,} parameters, expected {expected:,}" if not fits else ""
    )
    told = "all finite" if expected is None else f"all finite, {expected:,} parameters within 1 %"
    return judged("weights", not broken and fits, f"{count:,} parameters", told, detail)


def check_words(compared: Sequence[Compared]) -> Check:
    """Words of the streamed turns, token for token."""
    faults = [f"{one.label}: {one.fault or 'other tokens'}" for one in compared if one.fault or not one.words]
    return _counted("words as plain transformers", compared, faults, "every token of every turn")


def check_vectors(compared: Sequence[Compared], dtype: torch.dtype) -> Check:
    """Prosody vectors of the streamed turns."""
    errors = [one.vector_error for one in compared if one.vector_error is not None]
    if not errors:
        return not_run("prosody as plain transformers", "the model has no prosody vectors, or no turn had the same words")
    limit = VECTOR_ERROR.get(dtype, HALF_VECTOR_ERROR)
    return judged(
        "prosody as plain transformers", max(errors) <= limit,
        f"largest difference {max(errors):.1e}", f"<= {limit:g} of the RMS",
        "the streamed vectors are not those of one pass over the turn",
    )  # fmt: skip


def check_template(compared: Sequence[Compared]) -> Check:
    """The input without prosody against the tokenizer's own chat template."""
    asked = [one for one in compared if one.template is not None]
    if not asked:
        return not_run("input as the chat template", "the tokenizer has no chat template, or no turn was heard")
    return _counted("input as the chat template", asked, [one.label for one in asked if not one.template], "every token")


def check_replies(compared: Sequence[Compared], dtype: torch.dtype) -> Check:
    """Greedy replies against `generate`."""
    made = [one for one in compared if not one.fault]
    if not made:
        return not_run("reply as plain generate", "no turn was answered")
    limit = REPLY_GAP.get(dtype, HALF_REPLY_GAP)
    faults = [f"{one.label}: parts {one.gap:.2g} below the best token" for one in made if one.gap > limit]
    same = sum(one.equal_reply for one in made)
    return judged(
        "reply as plain generate", not faults, f"{same} of {len(made)} equal", f"equal, or the best two within {limit:g}",
        "; ".join(faults),
    )  # fmt: skip


def check_word_errors(found: Iterable[tuple[Sound, str]], limit: float) -> Check:
    """Word error rate over all sounds whose words are known; `found` are sounds and what was recognized."""
    errors = words = 0
    for sound, text in found:
        if sound.text is not None and (reference := normalize_typed(sound.text)):
            wrong, all_words = word_errors(reference, normalize_typed(text))
            errors, words = errors + wrong, words + all_words
    if not words:
        return not_run("word error rate", "no sound whose words are known: install the extra espeak, or put a .txt beside a wav")
    rate = errors / words
    return judged(
        "word error rate", rate <= limit, f"{rate:.1%} of {words} words", f"<= {limit:.0%}", "too many words are misheard"
    )


def check_latency(played: Sequence[Played], realtime: bool, limit_ms: float) -> Check:
    """From the end of speech to the first token of the reply's text; the tolerance is for what comes behind the decision
    that the turn is over."""
    found = []
    for one in played:
        end, metrics = one.last(events.TurnEnd), one.last(events.Metrics)
        if end is None or metrics is None or metrics.first_text_ms is None:
            continue
        heard_ms = one.ms_of_first(events.ReplyDelta) if realtime else end.t_ms + metrics.first_text_ms
        found.append(((heard_ms or 0.0) - one.sound.end_ms, metrics.first_text_ms))
    if not found:
        return not_run("first reply token", "no turn was answered with words")
    total, after = (float(np.median(values)) for values in zip(*found, strict=True))
    return judged(
        "first reply token", after <= limit_ms,
        f"{total:.0f} ms after the end of speech, {after:.0f} ms of it after the turn was over (median of {len(found)})",
        f"<= {limit_ms:.0f} ms after the turn was over", "this machine is too slow for this model",
    )  # fmt: skip


def check_factor(played: Sequence[Played], limit: float) -> Check:
    """Compute of listening over the length of the audio."""
    metrics = [found for one in played if (found := one.last(events.Metrics)) is not None]
    factors = [one.realtime_factor for one in metrics if one.realtime_factor is not None]
    if not factors:
        return not_run("real-time factor", "no turn was heard to its end")
    middle = float(np.median(factors))
    return judged("real-time factor", middle <= limit, f"{middle:.2f}", f"<= {limit:g}", "listening is slower than speech")


def check_memory(checkpoint: Checkpoint, added_bytes: int | None, gpu_bytes: int | None) -> Check:
    """What loading and running added to the process, and the GPU's peak; None where the system does not say."""
    weights = sum(tensor.numel() * tensor.element_size() for _, tensor in _everything(checkpoint))
    limit = round(1.5 * weights) + ROOM_BYTES
    told = [] if added_bytes is None else [f"{gigabytes(max(added_bytes, 0))} of memory more than before"]
    told += [] if gpu_bytes is None else [f"{gigabytes(gpu_bytes)} of the GPU's at most"]
    if not told:
        return not_run("memory", "this system does not say")
    most = max(added_bytes or 0, gpu_bytes or 0)
    tolerance = f"<= {gigabytes(limit)}, half more than the weights ({gigabytes(weights)}) and {gigabytes(ROOM_BYTES)}"
    return judged("memory", most <= limit, ", ".join(told), tolerance, "more than the weights account for")


def _counted(name: str, all_of: Sequence[Compared], faults: Sequence[str], tolerance: str) -> Check:
    measured = f"{len(all_of) - len(faults)} of {len(all_of)} turns equal"
    return judged(name, not faults and bool(all_of), measured, tolerance, "; ".join(faults) or "nothing was heard")


def _rows(played: Played) -> list[PlainRow]:
    return [int(entry.token_id or 0) if entry.vector is None else entry.vector for entry in played.entries]


def _behind(rows: Sequence[PlainRow], part: Sequence[int], start: int) -> int:
    """The place behind the first `part` in `rows` from `start` on."""
    for at in range(start, len(rows) - len(part) + 1):
        if all(isinstance(row, int) and row == token for row, token in zip(rows[at:], part, strict=False)):
            return at + len(part)
    return len(rows)


def _same_rows(found: Sequence[PlainRow], expected: Sequence[PlainRow]) -> tuple[bool, float | None]:
    """Whether both hold the same tokens and vectors in the same places; how far the vectors are apart, over their RMS."""
    if [row if isinstance(row, int) else None for row in found] != [row if isinstance(row, int) else None for row in expected]:
        return False, None
    pairs = [(row, other) for row, other in zip(found, expected, strict=True) if not isinstance(row, int)]
    if not pairs:
        return True, None
    ours, plain = (np.stack([np.asarray(pair[side]) for pair in pairs]) for side in (0, 1))
    return True, float(np.abs(ours - plain).max() / max(float(np.sqrt(np.mean(plain**2))), 1e-9))


def _same_reply(found: Sequence[PlainRow], plain: PlainReply, max_tokens: int) -> tuple[bool, float]:
    """Whether the replies are equal; how far below the best token the first other one is by the plain scores."""
    ours = [row for row in found[:max_tokens] if isinstance(row, int)][: len(plain.tokens)]
    for index, (token, expected) in enumerate(zip(ours, plain.tokens, strict=False)):
        if token != expected:
            scores = plain.scores[index]
            return False, float(scores.max() - scores[token])
    return (True, 0.0) if len(ours) == len(plain.tokens) else (False, math.inf)


def _like_template(checkpoint: Checkpoint, rows: Sequence[PlainRow], text: str) -> bool | None:
    tokenizer = checkpoint.tokenizer
    if not tokenizer.chat_template or not isinstance(checkpoint.speech, FullWhisper):
        return None
    question = [{"role": "user", "content": text}]
    rendered: Any = tokenizer.apply_chat_template(question, add_generation_prompt=True, enable_thinking=False)
    return [row for row in rows if isinstance(row, int)] == list(rendered["input_ids"])


def _everything(checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    """All weights, by part and name."""
    for part, model in (("speech", checkpoint.speech.model), ("backbone", checkpoint.backbone.model)):
        for name, tensor in model.named_parameters():
            yield f"{part} {name}", tensor
    if checkpoint.backbone.projector is not None:
        for field in fields(checkpoint.backbone.projector):
            yield f"projector {field.name}", getattr(checkpoint.backbone.projector, field.name)
