"""Trains the backbone and the projector: stage 'text' from scratch on typed dialogues and dense sums, stage
'speech' from there on what the recognizer heard, with the frozen model of stage 'text' as the teacher.
Resumes by itself.

Matrices inside the blocks are stepped by Muon, all else by AdamW; forward and backward run in bfloat16
autocast, the weights and the losses stay in fp32.
"""

from __future__ import annotations

import copy
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from ..models.chat import ChatFormat
from ..models.errors import InputError
from ..models.fusion import Fusion
from .attention import attend_in_fp32
from .induction import begin_with_induction
from .runs import Log, Stateful, optimizers, read_state, resume, save, schedule
from .skills import TONES, Dialogue, sample_dialogue
from .slm_data import HeardDialogue, read_shards
from .slm_evaluation import exact_turns
from .slm_lessons import LessonBatch, Lessons
from .slm_model import SpokenLanguageModel, backbone_config, losses
from .slm_sequences import Renderer, TrainingSequence
from .team import ALONE, Team, join_team

FILLERS = "fillers"


@dataclass(frozen=True, slots=True)
class SlmTraining:
    """Settings of a run; times in steps. `tokenizer` is a folder that holds the tokenizer; a new run begins with
    the weights of the run in `start`, which stage 'speech' must have, as it must have the shards in `corpus`."""

    folder: Path
    stage: Literal["text", "speech"]
    tokenizer: Path
    start: Path | None = None
    corpus: Path | None = None
    steps: int = 3000
    rows: int = 2048
    """Padded rows (tokens and markers) of a batch."""
    muon_rate: float = 3.5e-3
    adam_rate: float = 1.5e-3
    warm_up: int = 60
    end_weight: float = 0.3
    distil_weight: float = 1.0
    tone_weight: float = 0.3
    """Stage 'speech' only: a read-out of the tone where the answer begins, so that prosody is used. Not exported."""
    dense_until: float = 0.4
    """Share of the steps in which most rows are dense text: sums and repeating."""
    dense_share: float = 0.65
    dense_share_after: float = 0.1
    copy_share: float = 0.3
    """Share of the dense rows that teach repeating; the others are sums."""
    extra_sums: float = 0.35
    """Share of the typed dialogues that are drawn until they begin with a sum."""
    heard_share: float = 0.6
    tone_share: float = 0.35
    """Share of the heard dialogues that are drawn among those with a turn whose answer depends on its tone."""
    hidden: int = 256
    layers: int = 6
    feature_dim: int = 192
    bfloat16: bool = True
    threads: int = 1
    report_every: int = 20
    evaluate_every: int = 200
    evaluation_dialogues: int = 64
    save_every: int = 200
    seed: int = 1


def train_slm(settings: SlmTraining) -> None:
    """Train, or go on, in `settings.folder`; writes `checkpoint.pt` and `log.csv` there."""
    team = join_team()
    settings.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(settings.tokenizer)
    chat = ChatFormat(tokenizer, {})
    renderer = Renderer(tokenizer, chat, Fusion(marker_id=chat.marker_id))
    pad = int(tokenizer.pad_token_id)
    model = SpokenLanguageModel(
        backbone_config(len(tokenizer), settings.hidden, settings.layers, pad), settings.feature_dim
    )
    if settings.bfloat16:
        attend_in_fp32(model.backbone)
    teacher = _start(model, settings)
    tone_head = nn.Linear(settings.hidden, len(TONES)) if settings.stage == "speech" else None
    muon, adam = steppers_of(model, settings, tone_head)
    parts: dict[str, Stateful] = {"model": model, "muon": muon, "adam": adam}
    if tone_head is not None:
        parts["tone_head"] = tone_head
    step = resume(settings.folder, parts)
    heard = read_shards(settings.corpus, "train") if settings.corpus is not None else []
    lessons = Lessons(
        renderer,
        team.data_seed(settings.seed + step),
        settings.rows,
        pad,
        heard,
        settings.heard_share,
        tone_share=settings.tone_share,
        extra_sums=settings.extra_sums,
        copy_share=settings.copy_share,
    )
    examination = Examination(renderer, settings)
    log, began = Log(settings.folder / "log.csv"), time.monotonic()
    log.note(dict.fromkeys(examination.names, float("nan")))
    while step < settings.steps:
        dense_for = settings.dense_until * settings.steps if settings.stage == "text" else 0
        lesson = lessons.batch(settings.dense_share if step < dense_for else settings.dense_share_after)
        rate = schedule(step, settings.steps, settings.warm_up)
        values = train_step(model, teacher, lesson, (muon, adam), rate, chat.turn_end_id, settings, tone_head, team)
        step += 1
        if not team.is_first:
            continue
        log.add(values)
        if step % settings.evaluate_every == 0 or step == settings.steps:
            log.note(examination.hold(model))
        if step % settings.report_every == 0 or step == settings.steps:
            log.write(step, time.monotonic() - began)
        if step % settings.save_every == 0 or step == settings.steps:
            save(settings.folder, parts, step)


def train_step(
    model: SpokenLanguageModel,
    teacher: SpokenLanguageModel | None,
    lesson: LessonBatch,
    steppers: tuple[torch.optim.Optimizer, ...],
    rate: float,
    turn_end: int,
    settings: SlmTraining,
    tone_head: nn.Linear | None = None,
    team: Team = ALONE,
) -> dict[str, Tensor]:
    """One step at `rate` of the full learning rates; gives the losses."""
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        teacher_logits = None
        if teacher is not None and lesson.teacher is not None:
            with torch.no_grad():
                read = lesson.teacher
                teacher_logits = teacher.logits(teacher.states(read), read.replies[read.distilled])
        values = losses(model, lesson.batch, turn_end, teacher_logits, tone_head)
        total = (
            values["text"]
            + settings.end_weight * values["end"]
            + settings.distil_weight * values["distil"]
            + settings.tone_weight * values["tone"]
        )
    for stepper in steppers:
        for group in stepper.param_groups:
            group["lr"] = group["full_lr"] * rate
        stepper.zero_grad(set_to_none=True)
    total.backward()
    team.average_gradients([parameter for stepper in steppers for group in stepper.param_groups for parameter in group["params"]])
    values["norm"] = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for stepper in steppers:
        stepper.step()
    return values


def steppers_of(
    model: SpokenLanguageModel, settings: SlmTraining, tone_head: nn.Linear | None = None
) -> tuple[torch.optim.Muon, torch.optim.AdamW]:
    """The two optimizers: the projector and the tone's read-out count as "all else"."""
    matrices = [parameter for parameter in model.backbone.model.layers.parameters() if parameter.ndim == 2]
    known = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    others += list(tone_head.parameters()) if tone_head is not None else []
    return optimizers(matrices, others, settings.muon_rate, settings.adam_rate)


class Examination:
    """Held-out dialogues, typed and (where the corpus has them) spoken, and the share of turns answered
    exactly.

    Turns that need a tone are asked in speech only.
    """

    def __init__(self, renderer: Renderer, settings: SlmTraining) -> None:
        rng, n = random.Random(97), settings.evaluation_dialogues
        self._end = renderer.chat.turn_end_id
        dialogues = [sample_dialogue(rng, FILLERS) for _ in range(n)]
        self._sets: dict[str, list[tuple[Dialogue, TrainingSequence]]] = {
            "typed": [(dialogue, renderer.render(dialogue)) for dialogue in dialogues]
        }
        if settings.corpus is not None:
            heard: list[HeardDialogue] = read_shards(settings.corpus, FILLERS)[:n]
            self._sets["spoken"] = [
                (item.dialogue, renderer.render(item.dialogue, item.said)) for item in heard
            ]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that `hold` fills."""
        kinds = ("", "_sums", "_tones")
        return tuple(f"{name}{kind}" for name in self._sets for kind in kinds if (name, kind) != ("typed", "_tones"))

    def hold(self, model: SpokenLanguageModel) -> dict[str, float]:
        """Shares of turns answered exactly: all of them, the sums alone, and in speech those that need the tone."""
        model.eval()
        shares = {}
        for name, items in self._sets.items():
            right = exact_turns(model, items, self._end)
            turns = {(number, turn): items[number][0].turns[turn] for number, turn in right}
            asked = {key for key, turn in turns.items() if name == "spoken" or turn.tone is None}
            sums = {key for key in asked if turns[key].skill == "arithmetic"}
            shares[name] = sum(right[key] for key in asked) / max(len(asked), 1)
            shares[f"{name}_sums"] = sum(right[key] for key in sums) / max(len(sums), 1)
            if name == "spoken":
                toned = {key for key in asked if turns[key].tone is not None}
                shares["spoken_tones"] = sum(right[key] for key in toned) / max(len(toned), 1)
        model.train()
        return shares


def _start(model: SpokenLanguageModel, settings: SlmTraining) -> SpokenLanguageModel | None:
    """Load the weights of `start` if there is one; in stage 'speech', give a frozen copy of them as the teacher."""
    if settings.stage == "text":
        if settings.start is not None:
            model.load_state_dict(read_state(settings.start)["model"])
        else:
            begin_with_induction(model.backbone)
        return None
    if settings.start is None or settings.corpus is None:
        raise InputError(
            "stage 'speech' needs the run of stage 'text' (start) and recognized shards (corpus)"
        )
    model.load_state_dict(read_state(settings.start)["model"])
    return copy.deepcopy(model).eval().requires_grad_(False)
