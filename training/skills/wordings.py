"""Wordings and fillers, each divided once into what is trained on and what is held out. Held-out wordings
are chosen by hand, so that each of their words is heard in training too; held-out fillers by a stable hash
(about 15 %), so that a division never moves when another filler is added."""

import random
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

SPLITS = ("train", "fillers", "paraphrases")
HELD_PERCENT = 15
BARE_WEIGHT = 4


@dataclass(frozen=True, slots=True)
class Frames:
    """Phrases that may go around a wording: `{}` is its place."""

    known: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


BARE = Frames()
REQUEST = Frames(
    known=("please {}", "{} please", "can you {}", "could you {}", "can you {} please", "could you please {}",
           "hey {}", "i want you to {}", "okay {}", "{} for me", "now {}"),
    held=("would you {}",),
)


@dataclass(frozen=True, slots=True)
class Wordings:
    """The ways to say one thing; `train` repeats the frequent ones, `held` is disjoint from it."""

    train: tuple[str, ...]
    held: tuple[str, ...]

    def pick(self, rng: random.Random, split: str) -> str:
        """A held-out wording in the split 'paraphrases', else one that is trained on."""
        pool = self.held if split == "paraphrases" else self.train
        return pool[int(rng.random() * len(pool))]


def wordings(known: Sequence[str], held: Sequence[str], frames: Frames = BARE) -> Wordings:
    """Wordings with phrases around them: held out are the held ones in any frame, and all in a held frame."""
    train = [text for text in known for _ in range(BARE_WEIGHT if frames.known else 1)]
    train += [frame.replace("{}", text) for text in known for frame in frames.known]
    held_out = [text for text in held for _ in range(BARE_WEIGHT if frames.known else 1)]
    held_out += [frame.replace("{}", text) for text in held for frame in frames.known]
    held_out += [frame.replace("{}", text) for text in known for frame in frames.held]
    seen = set(train)
    return Wordings(tuple(train), tuple(text for text in held_out if text not in seen))


def together(*parts: Wordings) -> Wordings:
    """Wordings that say the same but take different frames."""
    return Wordings(tuple(text for part in parts for text in part.train),
                    tuple(text for part in parts for text in part.held))


def is_held(kind: str, *values: object) -> bool:
    """Whether this combination of fillers is held out from training."""
    key = "|".join([kind, *map(str, values)])
    return int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big") % 100 < HELD_PERCENT


def filler_key(kind: str, *values: object) -> str:
    """The name of a combination of fillers, as turns carry it."""
    return ":".join([kind, *map(str, values)])


T = TypeVar("T", bound=tuple[object, ...])


class Fillers(Generic[T]):
    """All combinations of one kind, divided by the hash of their values."""

    __slots__ = ("free", "held", "held_set", "kind", "known")

    def __init__(
        self,
        kind: str,
        options: Iterable[T],
        key: Callable[[T], tuple[object, ...]] = tuple,
        shown: Container[tuple[object, ...]] = (),
    ) -> None:
        """`key` gives what is hashed, where combinations stand or fall together (sorted pairs); keys in `shown` occur in
        training in any case, so they are never held out."""
        self.kind = kind
        self.free: tuple[T, ...] = tuple(options)
        self.held_set = frozenset(
            values for values in self.free if is_held(kind, *key(values)) and key(values) not in shown
        )
        self.known = tuple(values for values in self.free if values not in self.held_set)
        self.held = tuple(values for values in self.free if values in self.held_set)

    def pool(self, split: str) -> tuple[T, ...]:
        """What a split may use: train the known ones, fillers the held-out ones, paraphrases all."""
        if split == "train":
            return self.known
        return self.held if split == "fillers" else self.free

    def pick(self, rng: random.Random, split: str) -> T:
        """One combination of the split's pool."""
        pool = self.pool(split)
        return pool[int(rng.random() * len(pool))]

    def mark(self, split: str, values: T) -> str | None:
        """The name a turn carries; None where a follow-up in 'fillers' lands on a trained combination."""
        return None if split == "fillers" and values not in self.held_set else filler_key(self.kind, *values)
