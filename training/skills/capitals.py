"""Capitals of about forty countries: facts that the small model knows by heart, so none is held out."""

from .draw import Draw
from .numbers import sentence
from .turns import Turn
from .wordings import Frames, wordings

NAME = "capitals"
CAPITALS = {
    "france": "Paris", "germany": "Berlin", "italy": "Rome", "spain": "Madrid", "england": "London",
    "japan": "Tokyo",
    "china": "Beijing", "russia": "Moscow", "canada": "Ottawa", "mexico": "Mexico City", "brazil": "Brasilia",
    "egypt": "Cairo", "greece": "Athens", "portugal": "Lisbon", "poland": "Warsaw", "sweden": "Stockholm",
    "norway": "Oslo", "finland": "Helsinki", "denmark": "Copenhagen", "austria": "Vienna",
    "hungary": "Budapest",
    "ireland": "Dublin", "scotland": "Edinburgh", "turkey": "Ankara", "india": "New Delhi",
    "thailand": "Bangkok",
    "vietnam": "Hanoi", "south korea": "Seoul", "indonesia": "Jakarta", "australia": "Canberra",
    "cuba": "Havana",
    "peru": "Lima", "chile": "Santiago", "argentina": "Buenos Aires", "kenya": "Nairobi", "nigeria": "Abuja",
    "morocco": "Rabat", "iran": "Tehran", "iraq": "Baghdad", "ukraine": "Kyiv", "belgium": "Brussels",
    "switzerland": "Bern",
}
WAYS = wordings(
    ("what is the capital of {country}", "what's the capital of {country}",
     "tell me the capital of {country}", "what is the capital city of {country}",
     "the capital of {country}", "which city is the capital of {country}",
     "do you know the capital of {country}", "can you tell me the capital of {country}",
     "name the capital of {country}", "i need the capital of {country}"),
    ("can you name the capital of {country}", "tell me what the capital of {country} is"),
    Frames(("hey {}", "please {}", "{} please", "okay {}", "so {}"), ("and now {}",)),
)
FOLLOW_WAYS = wordings(("and of {country}", "and what about {country}", "what about {country}",
                        "and {country}", "and the capital of {country}"), ("and what is it for {country}",
                                                          "so what about {country}"))


def start(draw: Draw) -> Turn:
    """The capital of a country."""
    return _turn(draw, draw.words(WAYS))


def follow(draw: Draw) -> Turn | None:
    """And of another country."""
    return _turn(draw, draw.words(FOLLOW_WAYS))


def _turn(draw: Draw, template: str) -> Turn:
    country = draw.rng.choice(COUNTRIES)
    name = " ".join(sentence(word) for word in country.split())
    return Turn(template.replace("{country}", country), f"The capital of {name} is {CAPITALS[country]}.",
                NAME, template)


COUNTRIES = tuple(CAPITALS)
