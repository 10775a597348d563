"""Lights, timers and alarms: requests that become one tool call each, and follow-ups about the last light."""

from ...models.demo_tools import Call
from .draw import Draw, tool_turn
from .numbers import clock_words, number_words
from .turns import Turn
from .wordings import REQUEST, Fillers, filler_key, together, wordings

NAME = "devices"
WHICH_LIGHT_REPLY = "Sorry, which light do you mean?"
ROOMS = ("kitchen", "bedroom", "bathroom", "living room", "hall", "garden", "garage", "office",
         "dining room", "basement", "balcony", "study")

LIGHTS = Fillers("light", [(room, state) for room in ROOMS for state in ("on", "off")])
TIMERS = Fillers(
    "timer",
    [(amount, "minutes") for amount in range(1, 100)]
    + [(amount, "seconds") for amount in range(5, 100)]
    + [(amount, "hours") for amount in range(1, 25)],
)
HALVES = {"": 0, "in the morning": 0, "in the afternoon": 12, "in the evening": 12}


def time_of_day(hour: int, minute: int, half: str) -> tuple[int, int]:
    """Hour 0..23 and minute; a time said without its half of the day is taken as it is."""
    return (hour % 12 + HALVES[half] if half else hour), minute


ALARMS = Fillers(
    "alarm",
    [(hour, minute, half) for hour in range(1, 13) for minute in range(0, 60, 5)
     for half in ("", "in the morning", "in the afternoon" if hour < 6 or hour == 12 else "in the evening")],
    key=lambda alarm: time_of_day(*alarm),
)

LIGHT_WAYS = together(
    wordings(("{room} light {state}", "{room} light {state} please", "light {state} in the {room}"),
             ("{room} lights {state}",)),
    wordings(
        ("turn {state} the {room} light", "turn the {room} light {state}", "switch {state} the {room} light",
         "switch the {room} light {state}", "turn {state} the light in the {room}",
         "turn the light {state} in the {room}", "put the {room} light {state}",
         "turn the lights {state} in the {room}"),
        ("switch {state} the light in the {room}", "turn {state} the lights in the {room}"),
        REQUEST),
)
AGAIN_WAYS = wordings(
    ("turn it {state} again", "turn it {state}", "switch it {state} again", "now turn it {state} again",
     "turn the light {state} again", "please turn it {state} again", "and now {state} again",
     "okay turn it {state} again", "turn {state} the light", "turn the light {state}", "switch {state} the light",
     "switch the light {state}", "light {state} please"),
    ("now switch it {state} again", "can you turn it {state} again"),
)
TIMER_WAYS = wordings(
    ("set a timer for {amount}", "set a timer of {amount}", "start a timer for {amount}",
     "start a {single} timer", "set a {single} timer", "set the timer to {amount}",
     "give me a timer for {amount}", "tell me when {amount} are over", "wake me in {amount}"),
    ("start a timer of {amount}", "set the timer for {amount}", "wake me up in {amount}"),
    REQUEST,
)
CANCEL_TIMER_WAYS = together(
    wordings(("cancel the timer", "stop the timer", "cancel my timer", "turn off the timer", "stop my timer"),
             ("turn the timer off", "forget the timer"), REQUEST),
    wordings(("i don't need the timer anymore", "i don't need a timer", "no more timer"),
             ("i don't need my timer anymore",)),
)
ALARM_WAYS = together(
    wordings(("alarm at {time}", "i need an alarm at {time}", "i want to get up at {time}",
              "alarm for {time} please"),
             ("i need an alarm for {time}",)),
    wordings(
        ("set an alarm for {time}", "set an alarm at {time}", "wake me up at {time}", "wake me at {time}",
         "set my alarm for {time}", "set the alarm to {time}", "get me up at {time}"),
        ("set my alarm to {time}", "set the alarm for {time}"),
        REQUEST),
)
CANCEL_ALARM_WAYS = together(
    wordings(("cancel the alarm", "cancel my alarm", "turn off the alarm", "turn off my alarm",
              "stop the alarm"),
             ("turn the alarm off", "forget the alarm"), REQUEST),
    wordings(("i don't need the alarm anymore", "i don't need an alarm", "no more alarm"),
             ("i don't need my alarm anymore",)),
)


def start(draw: Draw) -> Turn:
    """A light, a timer or an alarm."""
    kind = draw.rng.random()
    draw.light = ("", "")
    if draw.split != "fillers" and not draw.spoke_of(NAME) and draw.chance(0.06):
        template = draw.words(AGAIN_WAYS)
        user = template.replace("{state}", draw.rng.choice(("on", "off")))
        return Turn(user, WHICH_LIGHT_REPLY, NAME, template)
    if kind < 0.45:
        return _light(draw)
    if kind < 0.75 or (kind >= 0.95 and draw.split == "fillers"):
        return _timer(draw)
    if kind < 0.95:
        return _alarm(draw)
    ways, name, reply = draw.rng.choice((
        (CANCEL_TIMER_WAYS, "cancel_timer", "Okay, the timer is off."),
        (CANCEL_ALARM_WAYS, "cancel_alarm", "Okay, the alarm is off."),
    ))
    template = draw.words(ways)
    return tool_turn(draw, NAME, template, template, Call(name, {}), reply)


def follow(draw: Draw) -> Turn | None:
    """The last light the other way; None after anything else."""
    room, state = draw.light
    opposite = "off" if state == "on" else "on"
    if not room or (draw.split == "train" and (room, opposite) in LIGHTS.held_set):
        return None
    draw.light = (room, opposite)
    template = draw.words(AGAIN_WAYS)
    return _light_turn(draw, template, room, opposite)


def _light(draw: Draw) -> Turn:
    room, state = draw.fill_freely(LIGHTS, 0)
    draw.light = (room, state)
    return _light_turn(draw, draw.words(LIGHT_WAYS), room, state)


def _light_turn(draw: Draw, template: str, room: str, state: str) -> Turn:
    user = template.replace("{room}", room).replace("{state}", state)
    call = Call("set_light", {"room": room, "state": state})
    return tool_turn(draw, NAME, template, user, call, f"Okay, the {room} light is {state}.",
                     LIGHTS.mark(draw.split, (room, state)))


def _timer(draw: Draw) -> Turn:
    amount, unit = draw.fill(TIMERS)
    template = draw.words(TIMER_WAYS)
    named = f"{number_words(amount)} {unit[:-1] if amount == 1 else unit}"
    user = template.replace("{amount}", named).replace("{single}", f"{number_words(amount)} {unit[:-1]}")
    if amount == 1:
        user = user.replace(" are over", " is over")
    call = Call("set_timer", {"amount": amount, "unit": unit})
    return tool_turn(draw, NAME, template, user, call, f"Okay, {named} from now.",
                     TIMERS.mark(draw.split, (amount, unit)))


def _alarm(draw: Draw) -> Turn:
    hour, minute, half = draw.fill(ALARMS)
    spoken = clock_words(hour, minute)
    if minute == 0 and draw.chance(0.5):
        spoken = number_words(hour)
    spoken = f"{spoken} {half}".strip()
    template = draw.words(ALARM_WAYS)
    hour_of_day, _ = time_of_day(hour, minute, half)
    call = Call("set_alarm", {"time": f"{hour_of_day:02d}:{minute:02d}"})
    reply = f"Okay, your alarm is set for {spoken}."
    return tool_turn(draw, NAME, template, template.replace("{time}", spoken), call, reply,
                     filler_key("alarm", hour, minute, half))
