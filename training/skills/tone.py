"""Statements whose answer depends on how they are said. Each is trained and tested in four tones, with one
reply per tone: its words alone never give the answer away. An angry statement about a service (a parcel, a
bill, an order) is answered by a tool call that hands the caller to a person; the same words in any other
tone are not."""

import dataclasses
from dataclasses import dataclass

from ...models.demo_tools import Call
from .draw import Draw, tool_turn
from .turns import TONES, Turn
from .wordings import Fillers, Wordings, wordings

NAME = "tone"
SOUND = "sound"


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that people say: its topic as the reply names it, its family of replies, its wordings."""

    topic: str
    kind: str
    ways: Wordings


def _say(topic: str, kind: str, known: tuple[str, ...], held: tuple[str, ...]) -> Statement:
    return Statement(topic, kind, wordings(known, held))


REPLIES: dict[str, dict[str, str]] = {
    "lost": {
        "plain": "Okay, where did you last see {topic}?",
        "happy": "You sound cheerful, so {topic} will turn up.", "sad": "Oh no, I am sorry about {topic}.",
        "angry": "I see why you are upset, let's find {topic}.",
    },
    "broken": {
        "plain": "Okay, what is wrong with {topic}?", "happy": "You take it well, time to replace {topic}!",
        "sad": "I am sorry that {topic} broke.", "angry": "That is annoying, let's get {topic} repaired.",
    },
    "trouble": {
        "plain": "Okay, noted about {topic}.", "happy": "Good that you can laugh about {topic}.",
        "sad": "I am sorry about {topic}.", "angry": "I understand, {topic} would make anyone angry.",
    },
    "news": {
        "plain": "Good to know about {topic}.", "happy": "Wonderful, congratulations on {topic}!",
        "sad": "You don't sound happy about {topic}, what is wrong?",
        "angry": "You sound upset about {topic}, what happened?",
    },
    "daily": {
        "plain": "Okay, thank you for telling me about {topic}.", "happy": "Lovely, enjoy {topic}!",
        "sad": "You sound sad, is it {topic}?", "angry": "You sound angry, is it {topic}?",
    },
    "service": {
        "plain": "Okay, I can look into {topic}.", "happy": "Thank you for staying so kind about {topic}.",
        "sad": "I am very sorry about {topic}.", "angry": "I hear you, a person will help with {topic}.",
    },
}

STATEMENTS: tuple[Statement, ...] = (
    _say("the bus", "trouble", ("i missed the bus", "i missed my bus", "the bus left without me"),
         ("i just missed the bus",)),
    _say("the train", "trouble", ("i missed the train", "i missed my train", "the train left without me"),
         ("i just missed my train",)),
    _say("the test", "trouble", ("i failed the test", "i failed my test"), ("i just failed my test",)),
    _say("the rain", "trouble", ("it is raining again", "it's raining again", "it is raining",
                                 "more rain today"),
         ("it is raining again today",)),
    _say("work", "trouble", ("i have to work tomorrow", "i have to work on sunday", "i have to work late"),
         ("i have to work late tomorrow",)),
    _say("the coffee", "trouble", ("the coffee is cold", "my coffee is cold", "the coffee is cold again"),
         ("my coffee is cold again",)),
    _say("the party", "trouble", ("nobody came to my party", "nobody came to the party"),
         ("nobody came to my party today",)),
    _say("your team", "trouble", ("my team lost", "we lost the game", "my team lost again"),
         ("we lost the game again",)),
    _say("your neighbor", "trouble", ("my neighbor is loud again", "my neighbor is so loud",
                                      "the neighbor is loud"),
         ("the neighbor is so loud again",)),
    _say("the new job", "news", ("i got the job", "i got a new job", "they gave me the job"),
         ("i got the new job",)),
    _say("the game", "news", ("we won the game", "we won", "my team won the game", "i won the game"),
         ("my team won",)),
    _say("your test", "news", ("i passed the test", "i passed my test", "i passed"),
         ("i just passed the test",)),
    _say("the baby", "news", ("the baby is here", "my sister had a baby", "we had a baby"),
         ("the baby is here today",)),
    _say("the wedding", "news", ("i am getting married", "we are getting married",
                                 "my brother is getting married"),
         ("my sister is getting married",)),
    _say("the new house", "news", ("i bought a house", "we bought a house", "we got the house"),
         ("i got the house",)),
    _say("your birthday", "news", ("it is my birthday", "it's my birthday", "today is my birthday",
                                   "it is my birthday today"),
         ("it's my birthday today",)),
    _say("the money", "news", ("they paid me today", "i got my money", "i got paid today"),
         ("they paid me",)),
    _say("being home", "daily", ("i am home", "i'm home", "i am back home", "i am home again"),
         ("i'm back home",)),
    _say("monday", "daily", ("it is monday", "today is monday", "it is monday again"),
         ("today is monday again",)),
    _say("dinner", "daily", ("dinner is ready", "my dinner is ready", "the dinner is ready"),
         ("dinner is ready now",)),
    _say("the snow", "daily", ("it is snowing", "it's snowing", "it is snowing again"),
         ("it's snowing again",)),
    _say("the visit", "daily", ("my mother is coming", "my mother is coming today", "my mother is here"),
         ("my mother is coming tomorrow",)),
    _say("your boss", "daily", ("i have a new boss", "we have a new boss", "my boss called me"),
         ("i got a new boss",)),
    _say("the trip", "daily", ("i am leaving tomorrow", "we are leaving tomorrow", "i am leaving now"),
         ("we are leaving now",)),
    _say("school", "daily", ("school starts tomorrow", "school starts again", "school starts on monday"),
         ("school starts again tomorrow",)),
    _say("your package", "service", ("my package is late", "my package is not here",
                                     "my package did not come",
                                     "i am still waiting for my package"), ("my package is still not here",)),
    _say("your order", "service", ("my order is wrong", "you sent the wrong order", "i got the wrong order"),
         ("you sent me the wrong order",)),
    _say("your bill", "service", ("my bill is too high", "the bill is wrong", "my bill is wrong"),
         ("the bill is too high",)),
    _say("your money", "service", ("i did not get my money back", "i am still waiting for my money back",
                                   "i am waiting for my refund"), ("i am still waiting for my refund",)),
    _say("your internet", "service", ("my internet is down", "the internet is down again",
                                      "my internet is down again"),
         ("the internet is down",)),
    _say("your delivery", "service", ("nobody delivered my food", "my food did not come", "the food is cold"),
         ("my food is cold",)),
)

THINGS = ("keys", "phone", "wallet", "bag", "ticket", "glasses", "book", "ring", "watch", "hat", "umbrella",
          "dog", "cat")
BREAKABLE = ("phone", "car", "computer", "watch", "bike", "radio", "television", "washing machine",
             "camera", "lamp")
LOST = Fillers("lost", [(thing, tone) for thing in THINGS for tone in TONES])
BROKEN = Fillers("broken", [(thing, tone) for thing in BREAKABLE for tone in TONES])
LOST_WAYS = wordings(("i lost my {thing}", "i can't find my {thing}", "i have lost my {thing}",
                      "my {thing} {is} gone",
                      "i lost my {thing} again"), ("i can't find my {thing} again", "i just lost my {thing}"))
BROKEN_WAYS = wordings(("my {thing} is broken", "my {thing} does not work", "my {thing} broke",
                        "my {thing} is broken again"),
                       ("my {thing} broke again", "my {thing} does not work again"))

SOUND_REPLIES = {
    "plain": "You sound calm to me.", "happy": "You sound happy.", "sad": "You sound a little sad.",
    "angry": "You sound angry.",
}
SOUND_WAYS = wordings(
    ("how do i sound", "how do i sound to you", "how do i sound now", "what do i sound like",
     "tell me how i sound", "can you hear how i feel", "do you know how i feel", "how am i feeling",
     "can you tell how i feel", "guess how i feel", "how do i sound today"),
    ("what do i sound like to you", "tell me how i feel", "how am i feeling now"))


def start(draw: Draw) -> Turn:
    """A statement in one of four tones."""
    tone = draw.rng.choice(TONES)
    if draw.split == "fillers" or draw.chance(0.25):
        if draw.chance(0.55):
            return _with_thing(draw, LOST, LOST_WAYS, "lost")
        return _with_thing(draw, BROKEN, BROKEN_WAYS, "broken")
    statement = draw.rng.choice(STATEMENTS)
    template = draw.words(statement.ways)
    reply = REPLIES[statement.kind][tone].replace("{topic}", statement.topic)
    if statement.kind == "service" and tone == "angry":
        call = Call("transfer_to_person", {"reason": statement.topic.removeprefix("your ")})
        return dataclasses.replace(tool_turn(draw, NAME, template, template, call, reply), tone=tone)
    return Turn(template, reply, NAME, template, tone=tone)


def sound(draw: Draw) -> Turn:
    """How the user sounds: the tone itself is the answer."""
    tone = draw.rng.choice(TONES)
    template = draw.words(SOUND_WAYS)
    return Turn(template, SOUND_REPLIES[tone], SOUND, template, tone=tone)


def _with_thing(draw: Draw, fillers: Fillers[tuple[str, str]], ways: Wordings, kind: str) -> Turn:
    thing, tone = draw.fill_freely(fillers, 0)  # any thing, so that no tone is learned with its thing
    template = draw.words(ways)
    user = template.replace("{thing}", thing).replace("{is}", "are" if thing in ("keys", "glasses") else "is")
    reply = REPLIES[kind][tone].replace("{topic}", f"your {thing}")
    return Turn(user, reply, NAME, template, tone=tone, filler=fillers.mark(draw.split, (thing, tone)))
