"""When does a tick commit a draft token? Three rules over what is known of it; whole words only, by any of them.

`agreement` is LocalAgreement-2 by verification (Liu et al. 2020, Machacek et al. 2023): the token was found again with more
audio. `alignment` asks where its word lies (in the manner of AlignAtt, Papi et al. 2023, by CTC times): far enough from the
edge of the audio. `both` asks both and, of a token that the model itself finds unlikely, that it was found twice; it is the
only one of which tokens and vectors nearly always stay as committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

LIKELY = 0.5
"""The probability from which on a token need be found again only once."""
PolicyName = Literal["agreement", "alignment", "both"]
FinalPass = Literal["replace", "keep"]
"""What the final pass does with committed tokens and vectors that differ from its own: replace them, so that the turn is the
offline one, or keep them and say how far each vector lies from its own."""


@dataclass(frozen=True, slots=True)
class DraftToken:
    """A token behind the committed ones. `survived`: a verification with more audio found it again. `settled`: its word's
    time is decided and all audio that its prosody may see has been encoded for good, so its vector is final. `sure`: it is
    likely, or a second verification found it too."""

    survived: bool
    settled: bool
    sure: bool = True


class CommitPolicy(Protocol):
    """One rule."""

    def allows(self, token: DraftToken) -> bool:
        """Whether the token may be committed, given that those before it were."""


class Agreement:
    """Demands that a second look found the token; its vector may change until the final pass."""

    def allows(self, token: DraftToken) -> bool:
        """See `CommitPolicy`."""
        return token.survived


class Alignment:
    """Demands that the token's word ends one to two blocks before the audio does; it may be the first guess of it."""

    def allows(self, token: DraftToken) -> bool:
        """See `CommitPolicy`."""
        return token.settled


class Both:
    """Demands what `Agreement` and `Alignment` do, and a third look at what is unlikely."""

    def allows(self, token: DraftToken) -> bool:
        """See `CommitPolicy`."""
        return token.survived and token.settled and token.sure


POLICIES: dict[PolicyName, CommitPolicy] = {"agreement": Agreement(), "alignment": Alignment(), "both": Both()}
