"""Trains WhisperPro on synthetic speech: recognition + CTC + reconstruction of the log-mel + tone. Resumes by itself."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from ..models.alignment import final_token_frames, spikes, word_end_frames
from ..models.checkpoint import load_checkpoint
from ..models.whisperpro import WhisperPro, WhisperProConfig, prosody_visible
from .attention import attend_in_fp32
from .reconstruction import ReconstructionDecoder
from .runs import Log, Stateful, optimizers, resume, save, schedule
from .speech_corpus import IGNORE, SpeechBatch, SpeechBatches
from .team import join_team
from .tokenizer import train_tokenizer

_log = logging.getLogger(__name__)
MOST_CRASHES = 20
EMPTY_WEIGHT = 8.0
OTHER_SENTENCES = 100_003
"""Added to the seed after a crash."""


@dataclass(frozen=True, slots=True)
class WhisperProTraining:
    """Settings of a run; times in steps."""

    folder: Path
    start: Path | None = None
    """A checkpoint folder, such as models/tiny, whose recognizer and tokenizer a new run begins with."""
    steps: int = 4000
    batch_frames: int = 3600
    """Padded encoder frames (40 ms) in a batch: about 50 utterances."""
    muon_rate: float = 5e-3
    adam_rate: float = 2e-3
    warm_up: int = 100
    ctc_weight: float = 0.3
    reconstruction_weight: float = 0.3
    tone_weight: float = 0.15
    ctc_times_from: float = 0.3
    """Share of the steps after which word times come from the CTC head, as at inference, instead of from espeak."""
    easy_steps: int = 400
    """Steps at the start with whole, clean sentences, so that attention finds the words first."""
    pool: int = 400
    """Utterances that are drawn at once and sorted by length."""
    festival: Path | None = None
    """A folder of sentences that `train festival` spoke, to draw from beside espeak."""
    pico: Path | None = None
    """The same of `train pico`."""
    workers: int = 1
    threads: int = 1
    bfloat16: bool = True
    report_every: int = 25
    save_every: int = 250
    seed: int = 1


def train_whisperpro(settings: WhisperProTraining) -> None:
    """Train, or go on, in `settings.folder`; writes `checkpoint.pt`, `log.csv` and the tokenizer there.

    espeak-ng can crash, and its worker with it. Training then goes on from the last checkpoint with other sentences; a team
    of processes has to be started again.
    """
    for attempt in range(MOST_CRASHES + 1):
        try:
            _train(settings, attempt)
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error) or attempt == MOST_CRASHES or join_team().size > 1:
                raise
            _log.warning("the worker that makes speech died (%s); going on from the last checkpoint", error)


def _train(settings: WhisperProTraining, attempt: int) -> None:
    team = join_team()
    settings.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    if not team.is_first:
        team.wait()
    tokenizer = shared_tokenizer(settings.folder, settings.start)
    if team.is_first:
        team.wait()
    config = WhisperProConfig(vocab_size=len(tokenizer))
    model = WhisperPro(config)
    if settings.start is None:
        model.initialize()
    else:
        model.load_state_dict(load_checkpoint(settings.start).chunked.model.state_dict())
    if settings.bfloat16:
        attend_in_fp32(model.whisper)
    decoder = ReconstructionDecoder(config.d_model, 2 * config.n_mels)
    parameters = [*model.parameters(), *decoder.parameters()]
    layers = [*model.whisper.encoder.layers, *model.whisper.decoder.layers]
    matrices = [parameter for layer in layers for parameter in layer.parameters() if parameter.ndim == 2]
    known = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in parameters if id(parameter) not in known and parameter.requires_grad]
    muon, adam = optimizers(matrices, others, settings.muon_rate, settings.adam_rate)
    parts: dict[str, Stateful] = {"model": model, "decoder": decoder, "muon": muon, "adam": adam}
    step = resume(settings.folder, parts)
    batches = DataLoader(
        SpeechBatches(
            config,
            tokenizer,
            settings.batch_frames,
            team.data_seed(settings.seed + step + attempt * OTHER_SENTENCES),
            max(0, settings.easy_steps - step),
            settings.pool,
            [folder for folder in (settings.festival, settings.pico) if folder is not None],
        ),
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=6,
        worker_init_fn=_single_thread,
        multiprocessing_context="spawn",  # a worker must not inherit the threads of this process
    )
    starts_word = word_start_table(tokenizer)
    log, began = Log(settings.folder / "log.csv"), time.monotonic()
    for batch in batches:
        for group in (*muon.param_groups, *adam.param_groups):
            group["lr"] = group["full_lr"] * schedule(step, settings.steps, settings.warm_up)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            losses = step_losses(model, decoder, batch, starts_word, step >= settings.ctc_times_from * settings.steps)
        total = (
            losses["text"]
            + settings.ctc_weight * losses["ctc"]
            + settings.reconstruction_weight * losses["mel"]
            + settings.tone_weight * losses["tone"]
        )
        muon.zero_grad()
        adam.zero_grad()
        total.backward()
        team.average_gradients(parameters)
        losses["norm"] = nn.utils.clip_grad_norm_(parameters, 1.0)
        muon.step()
        adam.step()
        step += 1
        if team.is_first:
            log.add(losses)
            if step % settings.report_every == 0:
                log.write(step, time.monotonic() - began)
            if step % settings.save_every == 0 or step >= settings.steps:
                save(settings.folder, parts, step)
        if step >= settings.steps:
            return


def step_losses(
    model: WhisperPro, decoder: ReconstructionDecoder, batch: SpeechBatch, starts_word: Tensor, ctc_times: bool
) -> dict[str, Tensor]:
    """The four losses and the accuracies of one batch, scalars."""
    config = model.config
    states = model.encode(batch.mel, batch.lengths)
    everything = batch.lengths[:, None].expand_as(batch.tokens)
    logits = model.token_logits(model.decode(batch.tokens, states, everything)).float()
    text = text_loss(logits, batch.labels)
    ctc_log = model.ctc(states).float().log_softmax(-1)
    is_text = batch.word_ends > 0
    n_text = is_text.sum(1)
    ctc = F.ctc_loss(
        ctc_log.transpose(0, 1), batch.tokens[is_text], batch.lengths, n_text, config.pad, zero_infinity=True
    )
    ends = ctc_word_ends(ctc_log, batch, is_text, starts_word, config.pad) if ctc_times else batch.word_ends
    visible = prosody_visible(ends, batch.lengths, config.block_frames)
    prosody = model.decode(batch.tokens, states, visible, config.prosody_layer)
    embeddings = model.whisper.decoder.embed_tokens(batch.tokens)
    rebuilt = decoder(embeddings, prosody, batch.token_of_frame).float()
    inside = torch.arange(rebuilt.shape[1]) < batch.lengths[:, None]
    mel = (rebuilt - batch.target_mel).abs()[inside].mean()
    tone_logits = model.tone(prefix_mean(prosody, is_text)).float()
    tone = F.cross_entropy(tone_logits, batch.tone, ignore_index=IGNORE) if (batch.tone >= 0).any() else mel * 0
    counted, known = batch.labels >= 0, batch.tone >= 0
    with torch.no_grad():
        correct = (logits.argmax(-1) == batch.labels)[counted].float().mean()
        tone_correct = (tone_logits.argmax(-1) == batch.tone)[known].float().mean() if known.any() else torch.tensor(0.0)
    return {"text": text, "ctc": ctc, "mel": mel, "tone": tone, "right": correct, "tone_right": tone_correct}


def text_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits [batch, n_tokens, vocab], a scalar. Where nothing is said there is one label only, the end, and
    it counts `EMPTY_WEIGHT` times: among the words of a batch it would not count at all."""
    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, label_smoothing=0.05, reduction="none")
    counted = (labels != IGNORE).float()
    weights = torch.where(counted.sum(1, keepdim=True) == 1, EMPTY_WEIGHT * counted, counted)
    return (losses * weights).sum() / weights.sum()


def prefix_mean(prosody: Tensor, is_text: Tensor) -> Tensor:
    """Mean over a random prefix of at least half of the text tokens, [batch, dim], so that early read-outs hold."""
    count = is_text.sum(1, keepdim=True)
    keep = (count * (0.5 + 0.5 * torch.rand_like(count, dtype=torch.float32))).ceil()
    weight = (is_text & (is_text.cumsum(1) <= keep)).to(prosody.dtype)
    return (prosody * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)


def ctc_word_ends(ctc_log: Tensor, batch: SpeechBatch, is_text: Tensor, starts_word: Tensor, blank: int) -> Tensor:
    """Word ends by the CTC head, [batch, n]: the same rule as at inference."""
    best = ctc_log.detach().argmax(-1).numpy()
    ends = torch.zeros_like(batch.word_ends)
    for row, length in enumerate(batch.lengths.tolist()):
        tokens = batch.tokens[row][is_text[row]]
        if len(tokens):
            frames = final_token_frames(spikes(best[row, :length], blank), tokens.tolist(), length)
            ends[row, is_text[row]] = torch.tensor(word_end_frames(frames, starts_word[tokens].tolist()))
    return ends


def word_start_table(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """For each id whether it begins a word, [vocab]."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return torch.tensor([piece.startswith("\u0120") for piece in pieces])


def shared_tokenizer(folder: Path, start: Path | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer in `folder`; if there is none, that of the checkpoint `start`, or else a new one, trained."""
    if not (folder / "tokenizer.json").exists():
        if start is None:
            train_tokenizer(folder)
        else:
            PreTrainedTokenizerFast.from_pretrained(start, local_files_only=True).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _single_thread(worker: int) -> None:
    torch.set_num_threads(1)


