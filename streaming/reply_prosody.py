"""How the reply sounds after how the user sounded: one small table from the label of the user's turn to the manner
in which the agent speaks, a pure function of label and confidence. It answers a tone and does not copy it: anger is
met calmly, sadness softly. Where the label is unknown, plain or not sure enough, the voice stays as it is set."""

from __future__ import annotations

from types import MappingProxyType

from .synthesis import AS_SET, Manner

FOLLOWED_FROM = 0.6
"""The least confidence at which a label changes anything: the one from which labels are shown at all."""

MANNERS = MappingProxyType(
    {
        "plain": AS_SET,
        "happy": Manner(rate=1.06, pitch=6, range=18, amplitude=1.05),
        "sad": Manner(rate=0.9, pitch=-5, range=-12, amplitude=0.85),
        "angry": Manner(rate=0.94, pitch=-6, range=-10, amplitude=0.95),
    }
)
"""The manner of the reply by how the user sounded."""


def manner_of_reply(label: str, confidence: float) -> Manner:
    """The manner in which to answer a turn that sounds like `label` with `confidence` 0 to 1."""
    return MANNERS.get(label, AS_SET) if confidence >= FOLLOWED_FROM else AS_SET
