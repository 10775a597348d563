"""SessionSettings from plain values, as a scenario or a recording holds them: groups of settings are mappings of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from ..agent.session_settings import SessionSettings
from ..models.errors import InputError

Made = TypeVar("Made")


def session_settings(values: Mapping[str, Any]) -> SessionSettings:
    """InputError for a name that there is not, or a value that does not fit."""
    return _made(SessionSettings, values, "session")


def _made(kind: type[Made], values: Mapping[str, Any], place: str) -> Made:
    defaults = {field.name: getattr(kind(), field.name) for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := [name for name in values if name not in defaults]:
        raise InputError(f"{place} has no {unknown[0]}; expected one of {', '.join(defaults)}")
    made: dict[str, Any] = {}
    for name, value in values.items():
        if is_dataclass(defaults[name]) and isinstance(value, Mapping):
            value = _made(type(defaults[name]), value, f"{place}.{name}")
        elif is_dataclass(defaults[name]):
            raise InputError(f"{place}.{name} is {value!r}: expected a mapping of settings")
        made[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**made)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {error}") from None
