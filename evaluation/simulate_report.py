"""What a run of scenarios came to, for people (a table), build servers (JUnit) and programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..models.errors import InputError
from .simulator import Outcome


def junit(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a JUnit file. InputError if that is not possible."""
    failed = sum(not outcome.passed for outcome in outcomes)
    wall_s = sum(outcome.wall_s for outcome in outcomes)
    root = ElementTree.Element("testsuites")
    counts = {"tests": str(len(outcomes)), "failures": str(failed), "errors": "0", "time": f"{wall_s:.3f}"}
    suite = ElementTree.SubElement(root, "testsuite", {"name": "scenarios", **counts})
    for outcome in outcomes:
        scenario = outcome.scenario
        place = {"name": scenario.name, "classname": scenario.path.stem, "file": str(scenario.path)}
        case = ElementTree.SubElement(suite, "testcase", {**place, "time": f"{outcome.wall_s:.3f}"})
        for failure in outcome.failures:
            ElementTree.SubElement(case, "failure", message=_clean(failure)).text = _clean(failure)
    ElementTree.indent(root)
    write(path, ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")


def as_json(outcome: Outcome) -> str:
    """One line; audio and what comes many times a second are left out."""
    moments = [
        {"at_ms": moment.at_ms, "type": moment.type, **moment.values}
        for moment in outcome.moments
        if moment.type not in ("voice_activity", "audio", "update")
    ]
    return json.dumps(
        {
            "file": str(outcome.scenario.path),
            "name": outcome.scenario.name,
            "passed": outcome.passed,
            "failures": list(outcome.failures),
            "duration_ms": outcome.duration_ms,
            "wall_s": round(outcome.wall_s, 3),
            "engine_ms": outcome.engine_ms,
            "moments": moments,
        },
        ensure_ascii=False,
        default=str,
    )


def write(path: Path, text: str) -> None:
    """InputError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another place") from None


def _clean(text: str) -> str:
    """Without characters that XML does not take."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")
