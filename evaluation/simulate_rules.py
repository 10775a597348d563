"""What holds in every conversation, whatever the scenario: rules over the events in order. Each gives the faults it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..agent import events


def broken_rules(happened: Sequence[events.Event]) -> list[str]:
    """One line for each fault."""
    return [*_turns(happened), *_replies(happened), *_tools(happened), *_failures(happened)]


def _turns(happened: Sequence[events.Event]) -> Iterator[str]:
    eager: dict[int, str] = {}
    spoken: set[int] = set()
    for event in happened:
        match event:
            case events.TurnStart():
                spoken.add(event.turn_id)
            case events.EagerTurnEnd():
                eager[event.turn_id] = event.text
                if not event.text:
                    yield f"turn {event.turn_id}: an eager end without words"
            case events.TurnResumed() if event.turn_id not in eager:
                yield f"turn {event.turn_id}: resumed without an eager end"
            case events.TurnEnd() if event.turn_id in spoken and event.text != eager.get(event.turn_id):
                yield f"turn {event.turn_id}: ended as {event.text!r}, and its last eager text is {eager.get(event.turn_id)!r}"


def _replies(happened: Sequence[events.Event]) -> Iterator[str]:
    stopped: set[tuple[int, int]] = set()
    ducked = False
    for event in happened:
        reply = (event.turn_id, event.revision)
        match event:
            case events.Interrupt():
                stopped.add(reply)
                ducked = False
            case events.Audio() | events.ReplyDelta() if reply in stopped:
                yield f"turn {event.turn_id}: {event.type} after its reply was cut off"
            case events.ReplyDone():
                ducked = False
                if not event.text.strip().startswith(event.heard_text.strip()):
                    yield f"turn {event.turn_id}: heard {event.heard_text!r}, no beginning of {event.text!r}"
            case events.Duck():
                if ducked:
                    yield "ducked twice"
                ducked = True
            case events.Unduck():
                ducked = False
    if ducked:
        yield "the reply was ducked, and neither went on nor ended"


def _tools(happened: Sequence[events.Event]) -> Iterator[str]:
    called = [event.call_id for event in happened if isinstance(event, events.ToolCall)]
    results = [event.call_id for event in happened if isinstance(event, events.ToolResult)]
    for call_id in {*called, *results}:
        if called.count(call_id) != 1 or results.count(call_id) > 1:
            yield f"call {call_id}: {called.count(call_id)} calls and {results.count(call_id)} results"


def _failures(happened: Sequence[events.Event]) -> Iterator[str]:
    for event in happened:
        if isinstance(event, events.Failed):
            yield f"the session failed: {event.reason}"
