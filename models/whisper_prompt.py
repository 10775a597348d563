"""What a Whisper reads before the text: start of transcript and, where the checkpoint has them, language, task and
no-timestamps, as its generation settings name them. `whisper_full.py` decodes behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast, WhisperForConditionalGeneration
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from .errors import CheckpointError


class Prompt:
    """What stands before the text: start of transcript, and where the checkpoint has them language, task, no-timestamps."""

    def __init__(self, model: WhisperForConditionalGeneration, language: str | None) -> None:
        generation, config = model.generation_config, model.config
        self.start: int = first_of(generation, config, "decoder_start_token_id")
        no_timestamps: int | None = getattr(generation, "no_timestamps_token_id", None)
        self._no_speech = None if no_timestamps is None else no_timestamps - 1
        languages: dict[str, int] = getattr(generation, "lang_to_id", None) or {}
        self._by_name, self._languages = languages, sorted(languages.values())
        language = language or getattr(generation, "language", None)
        self._language = None if language is None else _language_id(language, languages)
        if languages:
            tasks: dict[str, int] = getattr(generation, "task_to_id", None) or {}
            task = tasks.get(getattr(generation, "task", None) or "transcribe")
            rest = [] if task is None else [task]
        else:  # English only, or an older file that names its prompt by position
            forced = first_of(generation, config, "forced_decoder_ids") or []
            rest = [token for _, token in forced if token not in (None, no_timestamps)]
        self._rest = (*rest, *(() if no_timestamps is None else (no_timestamps,)))
        self.length = 1 + bool(languages) + len(self._rest)

    def language_id(self, language: str) -> int | None:
        """See `FullWhisper.language_id`."""
        return _language_id(language, self._by_name)

    def choose_language(self, scores: Tensor, wanted: int | None) -> tuple[int | None, float]:
        """The language to write, the likeliest where none is wanted or named, and its probability among all by the scores
        [vocab] behind the start of transcript; None for a checkpoint of English alone."""
        if not self._languages:
            return None, 0.0
        probabilities = scores[self._languages].softmax(-1)
        language = self.named(wanted)
        if language is None:
            language = self._languages[int(probabilities.argmax())]
        return language, float(probabilities[self._languages.index(language)])

    def named(self, wanted: int | None) -> int | None:
        """The language that is wanted, or else the one that the settings name."""
        return self._language if wanted is None else wanted

    def is_known(self, wanted: int | None) -> bool:
        """Whether the language is known before anything was heard."""
        return not self._languages or self.named(wanted) is not None

    def behind_start(self, language: int | None) -> tuple[int, ...]:
        """The prompt without its first token."""
        return self._rest if language is None else (language, *self._rest)

    def no_speech_probability(self, scores: Tensor) -> float:
        """From the scores [vocab] behind the start of transcript."""
        return 0.0 if self._no_speech is None else float(scores.softmax(-1)[self._no_speech])


def start_of_previous(generation: Any, tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The token before what was said before; None for a checkpoint without one."""
    named: int | None = getattr(generation, "prev_sot_token_id", None)
    return tokenizer.get_added_vocab().get("<|startofprev|>") if named is None else named


def _language_id(language: str, languages: dict[str, int]) -> int | None:
    """The token of a language; None for a checkpoint of English alone, whose prompt has no place for it."""
    name = language.strip("<|>").lower()
    code = TO_LANGUAGE_CODE.get(name, name)
    if not languages and code == "en":
        return None
    if f"<|{code}|>" not in languages:
        known = ", ".join(sorted(token.strip("<|>") for token in languages)) or "en"
        raise CheckpointError(f"this Whisper does not know the language {language!r}: expected one of {known}, or none named")
    return languages[f"<|{code}|>"]


def first_of(generation: Any, config: Any, name: str) -> Any:
    """A setting from generation_config.json, or else from config.json."""
    value = getattr(generation, name, None)
    return getattr(config, name, None) if value is None else value


def ids_of(value: int | Sequence[int] | None) -> list[int]:
    """The token ids of a setting that holds one, several, or none."""
    if value is None:
        return []
    return [value] if isinstance(value, int) else [token for token in value if token >= 0]
