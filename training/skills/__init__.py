"""The synthetic dialogue grammar that trains and evaluates the bundled voice model, one module per skill."""

from ...models.demo_tools import TOOLS, Call, demo_result
from .dialogue import sample_dialogue
from .turns import TONES, Dialogue, Turn
from .utterances import all_templates, all_wordings, sentences, vocabulary
from .wordings import SPLITS

__all__ = [
    "SPLITS", "TONES", "TOOLS", "Call", "Dialogue", "Turn", "all_templates", "all_wordings", "demo_result",
    "sample_dialogue", "sentences", "vocabulary",
]
