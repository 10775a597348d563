"""The tools that the bundled model was trained to call, and results for them when nothing real is
connected. A demo toolbox and the synthetic corpus give the same results: they depend on the arguments
alone, by a stable hash, so an order number keeps its status, and a result can be checked again."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

Arguments = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call as the model writes it: the tool's name and its JSON arguments."""

    name: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Tool:
    """What a tool is called, its parameters as a JSON schema of an object, and what it does."""

    name: str
    parameters: dict[str, Any]
    description: str


def _schema(required: tuple[str, ...], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer"}


def _choice(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


TOOLS: tuple[Tool, ...] = (
    Tool("set_light", _schema(("room", "state"), room=_TEXT, state=_choice("on", "off")),
         "Turn the light in a room on or off."),
    Tool("set_timer", _schema(("amount", "unit"), amount=_COUNT, unit=_choice("seconds", "minutes", "hours")),
         "Start a timer."),
    Tool("cancel_timer", _schema(()), "Cancel the timer that is running."),
    Tool("set_alarm", _schema(("time",), time=_TEXT), "Set an alarm for a time of day, as HH:MM."),
    Tool("cancel_alarm", _schema(()), "Cancel the alarm that is set."),
    Tool("robot_move", _schema(("direction",), direction=_choice("forward", "backward"), meters=_COUNT),
         "Drive the robot straight, by some meters or until told to stop."),
    Tool("robot_turn", _schema(("direction",), direction=_choice("left", "right", "around")),
         "Turn the robot on the spot."),
    Tool("robot_stop", _schema(()), "Stop the robot at once."),
    Tool("robot_pick", _schema(("object", "colour"), object=_TEXT, colour=_TEXT), "Pick up an object."),
    Tool("robot_put", _schema((), place=_TEXT), "Put down what the robot holds, here or at a place."),
    Tool("robot_go", _schema(("place",), place=_TEXT), "Send the robot to a place."),
    Tool("order_status", _schema(("order",), order=_TEXT), "Look up where an order of four digits is."),
    Tool("cancel_order", _schema(("order",), order=_TEXT), "Cancel an order that was not shipped yet."),
    Tool("refund_order", _schema(("order",), order=_TEXT), "Refund an order that has arrived."),
    Tool("transfer_to_person", _schema(("reason",), reason=_TEXT), "Hand the caller over to a person."),
)

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
STATUSES = ("packed", "shipped", "delivered", "late", "cancelled", "unknown")


def demo_result(call: Call) -> dict[str, Any]:
    """The JSON result of a call, decided by its arguments alone; most tools just answer {'ok': true}."""
    order = str(call.arguments.get("order", ""))
    match call.name:
        case "order_status":
            return _order(order)
        case "cancel_order":
            status = _order(order)["status"]
            if status in ("packed", "late"):
                return {"ok": True}
            return {"ok": False, "status": status}
        case "refund_order":
            status = _order(order)["status"]
            if status == "delivered":
                return {"ok": True, "days": 2 + _hash("refund", order) % 6}
            return {"ok": False, "status": status}
        case _:
            return {"ok": True}


def _order(order: str) -> dict[str, str]:
    number = _hash("order", order)
    status = STATUSES[min(number % 20 // 4, 4)] if number % 10 else "unknown"
    if status in ("shipped", "late", "delivered"):
        return {"status": status, "day": DAYS[number // 64 % len(DAYS)]}
    return {"status": status}


def _hash(*parts: str) -> int:
    return int.from_bytes(blake2b("|".join(parts).encode(), digest_size=4).digest(), "big")
