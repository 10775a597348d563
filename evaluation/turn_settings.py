"""A fitted rule as the settings of a session, in the form of a settings file, and what sessions do as they are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ..agent.session_settings import settings_of_turns
from ..agent.turns import TurnSettings
from .turn_fit import Fit
from .turn_sweep import Scored, cost_of

BY_MODEL = TurnSettings(endpointing="model")
BY_SILENCE = TurnSettings(endpointing="vad")


def fitted_settings(fit: Fit) -> TurnSettings:
    """The defaults with the fitted rule: a step from the longest silence to the shortest at its threshold. By silence alone
    where P(end) does not help."""
    if fit.policy is None:
        return BY_SILENCE
    policy = fit.policy
    return replace(
        BY_MODEL,
        sure_p_end=policy.threshold,
        sure_silence_ms=policy.delay_ms,
        unsure_p_end=policy.threshold,
        unsure_silence_ms=policy.timeout_ms,
    )


def settings_toml(fit: Fit, fitted_to: str) -> str:
    """The group [turns] of textpro.toml with what differs from the defaults, and what it was fitted to."""
    found, plain = fitted_settings(fit), TurnSettings()
    changed: Mapping[str, object] = {
        field.name: getattr(found, field.name)
        for field in fields(TurnSettings)
        if getattr(found, field.name) != getattr(plain, field.name)
    }
    lines = [f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in changed.items()]
    return "\n".join((f"# Fitted by `textpro-agent calibrate turns` to {fitted_to}.", f"# {fit.reason}", "[turns]", *lines, ""))


def as_set(decisions: Sequence[Scored], config: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """(share of pauses cut off, dead air in ms) of the defaults, with P(end) as the checkpoint's `config` reads it and by
    silence alone; empty where there are no pauses or no ends to count."""
    rules = {"as set, by P(end)": settings_of_turns(BY_MODEL, config), "as set, by silence": BY_SILENCE}
    costs = {name: cost_of(decisions, rule.silence_needed_ms) for name, rule in rules.items()}
    return {name: cost for name, cost in costs.items() if cost is not None}
