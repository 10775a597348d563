"""What a Python function looks like from outside: its parameters as a JSON schema, arguments checked against its signature,
and what it returns as JSON. pydantic does the work; nothing here runs the function.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError, validate_call
from pydantic_core import PydanticSerializationError, from_json, to_json

from ..models.errors import InputError

MAX_RESULT_CHARACTERS = 2_000
"""Of a result's JSON; what is longer is cut, since all of it has to fit into the context."""
Bound = tuple[tuple[Any, ...], dict[str, Any]]


class WrongArguments(InputError):
    """A call's arguments do not fit the function; the message names each fault."""


def parameters_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema of an object with the function's parameters. InputError where they cannot be given by name."""
    shape: Any = function  # pydantic takes a function where its types say a type
    try:
        schema: dict[str, Any] = TypeAdapter(shape).json_schema()
    except PydanticUserError as error:
        raise InputError(f"the parameters of {function!r} have no JSON schema: {error.message}") from error
    if schema.get("type") != "object":
        raise InputError(f"{function!r} takes arguments by position alone: a tool's parameters are given by name")
    return _without_titles(schema)


def description_of(function: Callable[..., Any]) -> str:
    """The first paragraph of the docstring, on one line."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def checker_of(function: Callable[..., Any]) -> Callable[[Mapping[str, Any]], Bound]:
    """A function from a call's arguments to those the function is called with, converted to the annotated types.

    What it gives raises WrongArguments.
    """

    @functools.wraps(function)
    def collect(*args: Any, **kwargs: Any) -> Bound:
        return args, kwargs

    checked = validate_call(collect)

    def check(arguments: Mapping[str, Any]) -> Bound:
        try:
            return checked(**arguments)
        except ValidationError as error:
            raise WrongArguments("; ".join(_fault(found) for found in error.errors(include_url=False))) from error

    return check


def as_result(value: object) -> dict[str, Any]:
    """A JSON object: a mapping as it is, None as {"ok": true}, any other value as {"result": value}. InputError if
    there is no JSON for it."""
    try:
        plain = from_json(to_json(value, inf_nan_mode="strings"))
        result = plain if isinstance(plain, dict) else {"ok": True} if plain is None else {"result": plain}
        text = json.dumps(result, ensure_ascii=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"it returned a {type(value).__name__}, which has no JSON form: {error}") from error
    if len(text) > MAX_RESULT_CHARACTERS:
        return {"result": text[:MAX_RESULT_CHARACTERS], "cut_at_characters": MAX_RESULT_CHARACTERS}
    return result


def _fault(found: Mapping[str, Any]) -> str:
    return f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without the titles that pydantic derives from names; a parameter called title stays."""
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        match key, value:
            case "title", str():
                continue
            case "properties" | "$defs", dict():
                kept[key] = {name: _without_titles(inner) for name, inner in value.items()}
            case "items" | "additionalProperties" | "not", dict():
                kept[key] = _without_titles(value)
            case "anyOf" | "allOf" | "oneOf" | "prefixItems", list():
                kept[key] = [_without_titles(inner) for inner in value]
            case _:
                kept[key] = value
    return kept
