"""Small talk, jokes, and the polite refusal of everything else."""

from .draw import Draw
from .turns import Turn
from .wordings import Frames, Wordings, wordings

NAME = "smalltalk"
REFUSAL = "refusal"
JOKE = "joke"
REFUSAL_REPLY = "Sorry, I can't help with that."

TALK: tuple[tuple[str, Wordings], ...] = (
    ("Hello, how can I help?", wordings(
        ("hello", "hi", "hey", "hello there", "hi there", "hey there", "hello hello", "hi can you hear me",
         "hello can you hear me", "is anyone there", "hello are you there"),
        ("hey can you hear me", "hi are you there"))),
    ("Good morning, how can I help?", wordings(("good morning", "good morning to you", "hello good morning"),
                                               ("hi good morning",))),
    ("Good evening, how can I help?", wordings(("good evening", "good evening to you", "hello good evening"),
                                               ("hi good evening",))),
    ("I am fine, thank you.", wordings(
        ("how are you", "how are you today", "how is it going", "are you okay", "how are you doing",
         "hello how are you", "how do you feel", "are you well"),
        ("hi how are you doing", "how are you doing today"))),
    ("I am a small voice assistant.", wordings(
        ("who are you", "what are you", "what is your name", "tell me who you are", "are you a robot",
         "are you a human", "do you have a name", "what's your name"),
        ("tell me what you are", "are you a person"))),
    ("I can count, help with lights, timers, orders and a robot.", wordings(
        ("what can you do", "what can i ask you", "how can you help me", "what do you know",
         "can you help me", "help", "i need help with something", "i need help", "help me please",
         "what can i say", "tell me what you can do"),
        ("tell me how you can help", "what can you help me with"))),
    ("You are welcome.", wordings(
        ("thank you", "thanks", "thank you very much", "thanks a lot", "okay thank you", "great thank you",
         "thank you so much", "thanks for your help"), ("okay thanks a lot", "thank you for your help"))),
    ("Goodbye, have a nice day.", wordings(
        ("goodbye", "bye", "bye bye", "see you later", "see you", "goodbye for now", "okay bye",
         "i have to go bye", "see you tomorrow"), ("okay goodbye", "bye see you later"))),
    ("Good night, sleep well.", wordings(
        ("good night", "good night to you", "okay good night", "i am going to bed good night"),
        ("thanks good night",))),
    ("Nice to meet you.", wordings(("nice to meet you", "it is nice to meet you", "hello nice to meet you"),
                                   ("hi it is nice to meet you",))),
    ("Thank you, that is kind.", wordings(
        ("you are great", "you are very nice", "well done", "good job", "very good", "that was great",
         "i like you", "that was a good answer"), ("that was very good", "you are very good"))),
    ("Okay, I am listening.", wordings(
        ("wait a moment", "wait", "one moment", "just a moment please", "hold on", "listen to me",
         "are you listening"), ("wait a moment please", "hold on a moment"))),
    ("Okay.", wordings(("okay", "yes", "no", "all right", "never mind", "stop", "that is all", "nothing",
                        "no thank you", "okay then", "forget it"), ("okay never mind", "no that is all"))),
)
JOKES = (
    "Why is six afraid of seven? Because seven eight nine.",
    "What do you call a sleeping bull? A bull dozer.", "Why did the robot rest? It had too many bits.",
)
JOKE_WAYS = wordings(
    ("tell me a joke", "do you know a joke", "say something funny", "make me laugh", "can you tell me a joke",
     "i want to hear a joke", "tell a joke please", "a joke please"),
    ("can you say something funny", "i want to laugh"))
ANOTHER_JOKE_WAYS = wordings(
    ("another one", "tell me another one", "another joke please", "one more", "tell me another joke",
     "do you know another one", "and another one please"), ("do you know another joke", "one more please"))

_OUTSIDE = (
    "book me a flight to {place}", "what is the weather", "what is the weather in {place}", "play some music",
    "play my favorite song", "call my mother", "send an email to my boss", "what time is it",
    "what day is it today", "order a pizza", "read me the news", "how tall is the tower in {place}",
    "who is the president of {place}", "write me a letter", "buy me a car", "find me a hotel in {place}",
    "what should i eat tonight", "open the window", "close the door", "wash my car",
    "tell me about the war", "who won the game", "how much is a ticket to {place}", "cook me dinner",
    "what is the meaning of life", "sing me a song", "translate this for me", "how old are you",
    "where do you live", "how far is the moon", "show me a picture", "take a picture of me", "call a taxi",
    "book a table for two", "what is on television tonight", "water the plants", "feed the dog",
    "how do i get to {place}", "turn up the music", "turn up the heat", "clean the kitchen",
    "make me a coffee", "when is the next train to {place}", "remind me to call my mother",
    "buy two tickets for the show", "what is the price of gold", "how many people live in {place}",
    "what should i wear today", "do my homework", "tell me a story", "read me a story",
    "who wrote this book", "what is the best restaurant in {place}", "how do i cook rice",
    "where can i buy shoes", "find a doctor in {place}", "call the police", "call my brother",
    "what language do they speak in {place}", "how hot is the sun", "how deep is the sea",
    "who are you going to vote for", "should i sell my house", "teach me to dance", "paint the wall",
    "fix my computer", "drive me home", "pay my bill", "send money to my sister", "take me to the beach",
    "what does that sign mean", "is it cold in {place}", "when does the bank open",
    "how much does a new car cost", "change the channel", "start the movie", "pour me some water",
    "is the kitchen light on", "is the light on in the hall", "is the garden light off", "are the lights on",
    "is the timer on", "is my alarm set",
    "do you love me", "are you married", "what is your favorite color", "do you dream", "do you like music",
)
_OUTSIDE_HELD = (
    "play the news", "book me a hotel in {place}", "how far is {place}", "when is the next flight to {place}",
    "send a letter to my mother", "order a taxi", "buy me a pizza", "read me a letter", "find me a song",
    "how do i cook a pizza", "find a bank in {place}", "how much does a ticket to {place} cost",
    "fix my car", "take me to the doctor", "do you like {place}", "when does the restaurant open",
    "sell my car",
)
OUTSIDE_WAYS = wordings(_OUTSIDE, _OUTSIDE_HELD, Frames(("please {}", "hey {}", "okay {}", "{} please"),
                                                        ("well {}",)))
OUTSIDE_PLACES = ("paris", "london", "rome", "berlin", "tokyo", "moscow", "china", "france", "italy",
                  "spain", "japan", "germany", "brazil", "india", "canada", "mexico")


def start(draw: Draw) -> Turn:
    """A greeting, a thank you, a joke and the like."""
    if draw.chance(0.12):
        draw.joke = 0
        template = draw.words(JOKE_WAYS)
        return Turn(template, JOKES[0], JOKE, template)
    reply, ways = draw.rng.choice(TALK)
    template = draw.words(ways)
    return Turn(template, reply, NAME, template)


def another_joke(draw: Draw) -> Turn | None:
    """The next joke; None after the last one."""
    draw.joke += 1
    if draw.joke >= len(JOKES):
        return None
    template = draw.words(ANOTHER_JOKE_WAYS)
    return Turn(template, JOKES[draw.joke], JOKE, template)


def refuse(draw: Draw) -> Turn:
    """A request that no skill covers."""
    template = draw.words(OUTSIDE_WAYS)
    return Turn(template.replace("{place}", draw.rng.choice(OUTSIDE_PLACES)),
                REFUSAL_REPLY, REFUSAL, template)
