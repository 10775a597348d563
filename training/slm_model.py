"""The bundled backbone in training: a small Qwen2 and the projector, with logits only where a loss needs
them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from ..kernels.fuse_prosody import ProjectorWeights
from .slm_sequences import Batch

ROUND = 512


def backbone_config(vocab_size: int, hidden: int = 256, layers: int = 6, pad: int = 1) -> Qwen2Config:
    """Sizes of the bundled backbone; heads of 64."""
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=5,
        pad_token_id=pad,
        use_sliding_window=False,
    )


class SpokenLanguageModel(nn.Module):
    """Backbone and projector. The blocks begin as the identity: their output matrices are zero at first."""

    def __init__(self, config: Qwen2Config, feature_dim: int) -> None:
        super().__init__()
        self.backbone = Qwen2ForCausalLM(config)
        hidden = config.hidden_size
        self.projector = nn.Sequential(nn.Linear(feature_dim, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        for name, parameter in self.backbone.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(parameter)

    def embed(self, ids: Tensor, markers: Tensor, vectors: Tensor) -> Tensor:
        """Input rows [batch, length, hidden]; the flat rows `markers` hold projected `vectors`."""
        embedded: Tensor = self.backbone.model.embed_tokens(ids)
        if not len(markers):
            return embedded
        projected = self.projector(vectors).to(embedded.dtype)
        return embedded.flatten(0, 1).index_copy(0, markers, projected).view_as(embedded)

    def states(self, batch: Batch) -> Tensor:
        """Final states of all rows, [batch * length, hidden]. Padding stands behind, where no row looks."""
        embedded = self.embed(batch.ids, batch.markers, batch.vectors)
        states: Tensor = self.backbone.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return states.flatten(0, 1)

    def logits(self, states: Tensor, rows: Tensor) -> Tensor:
        """Scores [n, vocab] in single precision at some rows [n] of states [all rows, hidden].

        Rows are computed in round numbers, for matrix kernels are prepared for each new shape at a cost.
        """
        more = -len(rows) % ROUND
        scores: Tensor = self.backbone.lm_head(states[torch.cat([rows, rows.new_zeros(more)])])
        return scores[: len(rows)].float()

    def projector_weights(self) -> ProjectorWeights:
        """The projector as the kernels take it."""
        first, last = self.projector[0], self.projector[2]
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        return ProjectorWeights(first.weight.data, first.bias.data, last.weight.data, last.bias.data)


def losses(
    model: SpokenLanguageModel, batch: Batch, turn_end: int, teacher_logits: Tensor | None, tone_head: nn.Linear | None = None
) -> dict[str, Tensor]:
    """Scalars: `text` cross entropy of the assistant's tokens, `end` binary cross entropy of the turn's end,
    `distil` the divergence KL(teacher || student), `tone` cross entropy of the tone that `tone_head` reads where
    the answer to a heard turn begins, and for the log `right` and the mean P(end) at ends and elsewhere."""
    states = model.states(batch)
    n = len(batch.replies)
    scores = model.logits(states, torch.cat([batch.replies, batch.ends]))
    logits = scores[:n]
    each = F.cross_entropy(logits, batch.reply_ids, reduction="none")
    text = (each * batch.reply_weights).sum() / batch.reply_weights.sum().clamp(min=1e-6)
    zero = text.detach() * 0
    distil = zero
    if teacher_logits is not None and len(teacher_logits):
        student = logits[batch.distilled].log_softmax(-1)
        distil = F.kl_div(student, teacher_logits.log_softmax(-1), reduction="batchmean", log_target=True)
    result = {"text": text, "distil": distil, "end": zero, "p_end": zero, "p_inside": zero}
    if len(batch.ends):
        end_log = scores[n:].log_softmax(-1)[:, turn_end].clamp(max=-1e-6)
        others_log = torch.log(-torch.expm1(end_log))
        result["end"] = -(batch.is_end * end_log + (1 - batch.is_end) * others_log).mean()
        p = end_log.detach().exp()
        result["p_end"] = (p * batch.is_end).sum() / batch.is_end.sum().clamp(min=1)
        result["p_inside"] = (p * (1 - batch.is_end)).sum() / (1 - batch.is_end).sum().clamp(min=1)
    result["tone"] = zero
    if tone_head is not None and len(batch.toned):
        result["tone"] = F.cross_entropy(tone_head(states[batch.toned]).float(), batch.tone_ids)
    counted = batch.reply_weights == 1
    right = (logits.detach().argmax(-1) == batch.reply_ids)[counted]
    return {**result, "right": right.float().mean() if counted.any() else zero}
