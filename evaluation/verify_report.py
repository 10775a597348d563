"""The Markdown report of a verification, to be attached to an issue: checks, settings, versions, files; no words that anybody
said, no names or places of the user's machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .verify import Verification

COMMAND = "textpro-agent verify"


def markdown(found: Verification) -> str:
    """The whole report."""
    verdict = "everything that was run is ok" if found.passed else "something is not ok"
    parts = [
        f"# Verification of {found.model}",
        f"By `{COMMAND}`: {verdict}.",
        _table(
            ("check", "result", "measured", "tolerance", "remark"),
            ((one.name, one.status, one.measured, one.tolerance, one.detail) for one in found.checks),
        ),
        "## Settings in effect",
        _table(("setting", "value"), found.settings.items()) if found.settings else "None: the model was not loaded.",
        "## Machine",
        _table(("part", "version"), found.machine.items()),
        "## What was said to it",
        "\n".join(f"- {label}" for label in found.sounds) or "Nothing.",
        "## Files",
        _table(("file", "bytes", "sha256"), ((one.name, f"{one.size:,}", f"`{one.sha256}`") for one in found.files)),
        "The plain side is transformers' own modules and `generate` with the same weights, on the samples of each whole turn and "
        "on the rows that the runtime's context held. Own recordings are counted and not named.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).replace("|", "\\|").split())
