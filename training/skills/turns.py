"""The values of the synthetic corpus: a turn is what a user says and what the assistant answers (with or
without a tool call before it), a dialogue is one to four turns. They carry no audio and no tokens; corpora
render them."""

from dataclasses import dataclass
from typing import Any

from ...models.demo_tools import Call

TONES = ("plain", "happy", "sad", "angry")


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange. `user` is lower case words, `reply` a written sentence.

    `tone` None: any tone, same answer; else the words must be said in that tone. With `call`, the
    assistant first calls the tool, gets `result`, then says `reply`. `heard`: the reply was cut off, and
    these of its first words were played. `template` is the wording before its fillers went in; `filler`
    names the combination of fillers, if it has one.
    """

    user: str
    reply: str
    skill: str
    template: str
    tone: str | None = None
    call: Call | None = None
    result: dict[str, Any] | None = None
    heard: str | None = None
    filler: str | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns of one conversation in their order, at least one and at most four."""

    turns: tuple[Turn, ...]
