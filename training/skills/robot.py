"""A small robot: drive, turn, stop, pick up, put down, go to a place. Every request is one tool call."""

from ...models.demo_tools import Call
from .draw import Draw, tool_turn
from .numbers import number_words
from .turns import Turn
from .wordings import Fillers, Frames, wordings

NAME = "robot"
STOPPED_REPLY = "Okay, I stopped."
OBJECTS = ("ball", "cup", "box", "book", "bottle", "pen", "bag", "toy", "block", "plate", "spoon", "apple")
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "brown", "orange")
PLACES = ("kitchen", "bedroom", "bathroom", "living room", "hall", "garden", "garage", "office",
          "dining room", "door", "window", "table", "sofa", "desk", "charger")
SPOTS = ("table", "floor", "shelf", "desk", "chair", "sofa", "box")

MOVES = Fillers("move", [(way, meters) for way in ("forward", "backward") for meters in range(1, 21)])
OBJECT_COLOURS = Fillers("pick", [(colour, thing) for colour in COLOURS for thing in OBJECTS])
DESTINATIONS = Fillers("go", [(place,) for place in PLACES])

_COMMAND = Frames(known=("robot {}", "please {}", "{} please", "hey robot {}", "can you {}",
                         "robot please {}", "now {}", "okay robot {}", "i want you to {}"),
                  held=("could you {} please",))

MOVE_WAYS = wordings(
    ("go {way} {meters}", "move {way} {meters}", "drive {way} {meters}", "move {meters} {way}",
     "go {meters} {way}", "go straight {way} {meters}", "roll {way} {meters}"),
    ("drive {meters} {way}", "roll {meters} {way}"), _COMMAND)
ROLL_WAYS = wordings(("go {way}", "move {way}", "drive {way}", "keep going {way}", "go straight {way}",
                      "roll {way}"),
                     ("keep moving {way}",), _COMMAND)
TURN_WAYS = wordings(
    ("turn {side}", "turn to the {side}", "go {side}", "rotate {side}", "make a {side} turn", "look {side}"),
    ("rotate to the {side}", "look to the {side}"), _COMMAND)
AROUND_WAYS = wordings(("turn around", "look behind you", "rotate all the way around"),
                       ("turn all the way around",), _COMMAND)
STOP_WAYS = wordings(
    ("robot stop", "stop moving", "stop right there", "stop the robot", "don't move", "stay where you are",
     "stop right now"),
    ("stay right there", "robot stop moving"), )
STOP_NOW_WAYS = wordings(("stop", "stop now", "please stop", "stop please", "okay stop", "stop it", "wait stop"),
                         ("stop it now", "okay please stop"))
"""Said while it drives, that is right after it was sent."""
PICK_WAYS = wordings(
    ("pick up the {colour} {object}", "take the {colour} {object}", "grab the {colour} {object}",
     "get the {colour} {object}", "pick the {colour} {object} up", "lift the {colour} {object}",
     "bring me the {colour} {object}"),
    ("lift up the {colour} {object}", "get me the {colour} {object}"), _COMMAND)
PUT_WAYS = wordings(
    ("put it down", "drop it", "put that down", "let it go", "put it down again", "lay it down"),
    ("drop it again", "lay it down again"), _COMMAND)
PUT_ON_WAYS = wordings(
    ("put it on the {spot}", "drop it on the {spot}", "put it down on the {spot}", "lay it on the {spot}"),
    ("lay it down on the {spot}",), _COMMAND)
GO_WAYS = wordings(
    ("go to the {place}", "drive to the {place}", "move to the {place}", "come to the {place}",
     "go over to the {place}", "find the {place}"),
    ("drive over to the {place}", "come over to the {place}"), _COMMAND)


def start(draw: Draw) -> Turn:
    """One request to the robot; in 'fillers' one with fillers."""
    kind = draw.rng.random()
    draw.held_object, draw.drives = "", False
    if draw.split == "fillers":
        return _move(draw) if kind < 0.35 else _pick(draw) if kind < 0.85 else _go(draw)
    for share, turn in ((0.2, _move), (0.28, _roll), (0.45, _turn), (0.55, _stop), (0.8, _pick)):
        if kind < share:
            return turn(draw)
    if kind > 0.96:
        return _put(draw, "it")
    return _go(draw)


def follow(draw: Draw) -> Turn | None:
    """Put down what was picked up, here or somewhere, or stop where it drives; None while it does neither."""
    if draw.drives:
        draw.drives = False
        template = draw.words(STOP_NOW_WAYS)
        return tool_turn(draw, NAME, template, template, Call("robot_stop", {}), STOPPED_REPLY)
    if not draw.held_object:
        return None
    thing, draw.held_object = draw.held_object, ""
    return _put(draw, f"the {thing}")


def _put(draw: Draw, thing: str) -> Turn:
    if draw.chance(0.4):
        template = draw.words(PUT_WAYS)
        return tool_turn(draw, NAME, template, template, Call("robot_put", {}),
                         f"Okay, I put {thing} down.")
    spot = draw.rng.choice([spot for spot in SPOTS if spot not in thing])
    template = draw.words(PUT_ON_WAYS)
    return tool_turn(draw, NAME, template, template.replace("{spot}", spot), Call("robot_put",
                                                                                  {"place": spot}),
                     f"Okay, {thing} is on the {spot}.")


def _move(draw: Draw) -> Turn:
    way, meters = draw.fill_freely(MOVES, 1)
    draw.drives = True
    distance = f"{number_words(meters)} {'meter' if meters == 1 else 'meters'}"
    template = draw.words(MOVE_WAYS)
    user = template.replace("{way}", way).replace("{meters}", distance)
    call = Call("robot_move", {"direction": way, "meters": meters})
    return tool_turn(draw, NAME, template, user, call, f"Okay, {distance} {way}.",
                     MOVES.mark(draw.split, (way, meters)))


def _roll(draw: Draw) -> Turn:
    way = draw.rng.choice(("forward", "backward"))
    draw.drives = True
    template = draw.words(ROLL_WAYS)
    return tool_turn(draw, NAME, template, template.replace("{way}", way), Call("robot_move",
                                                                                {"direction": way}),
                     f"Okay, going {way}.")


def _turn(draw: Draw) -> Turn:
    side = draw.rng.choice(("left", "left", "right", "right", "around"))
    if side == "around":
        template = draw.words(AROUND_WAYS)
        return tool_turn(draw, NAME, template, template, Call("robot_turn", {"direction": side}),
                         "Okay, turning around.")
    template = draw.words(TURN_WAYS)
    return tool_turn(draw, NAME, template, template.replace("{side}", side), Call("robot_turn",
                                                                                  {"direction": side}),
                     f"Okay, turning {side}.")


def _stop(draw: Draw) -> Turn:
    template = draw.words(STOP_WAYS)
    return tool_turn(draw, NAME, template, template, Call("robot_stop", {}), STOPPED_REPLY)


def _pick(draw: Draw) -> Turn:
    colour, thing = draw.fill_freely(OBJECT_COLOURS, 0, 1)
    template = draw.words(PICK_WAYS)
    user = template.replace("{colour}", colour).replace("{object}", thing)
    call = Call("robot_pick", {"object": thing, "colour": colour})
    turn = tool_turn(draw, NAME, template, user, call, f"Okay, I have the {colour} {thing}.",
                     OBJECT_COLOURS.mark(draw.split, (colour, thing)))
    if turn.result != {"ok": False}:
        draw.held_object = f"{colour} {thing}"
    return turn


def _go(draw: Draw) -> Turn:
    (place,) = draw.fill_freely(DESTINATIONS, 0)
    draw.drives = True
    template = draw.words(GO_WAYS)
    return tool_turn(draw, NAME, template, template.replace("{place}", place), Call("robot_go",
                                                                                    {"place": place}),
                     f"Okay, going to the {place}.", DESTINATIONS.mark(draw.split, (place,)))
