"""What is true in the made-up world of hh-mini: countries, tasks, people, and requests that are to be refused.

The tables are small on purpose: a GPT-2 of a million parameters has to learn all of it in about a minute.
"""

from __future__ import annotations

from typing import NamedTuple


class Country(NamedTuple):
    """Three facts, and a detail that supports each."""

    capital: str
    crop: str
    flag: str
    capital_detail: str
    crop_detail: str
    flag_detail: str

    def value(self, attribute: str) -> str:
        return str(getattr(self, attribute))

    def detail(self, attribute: str) -> str:
        return str(getattr(self, f"{attribute}_detail"))


ATTRIBUTES = ("capital", "crop", "flag")

COUNTRIES: dict[str, Country] = {
    "Arvia": Country("Larkby", "rice", "red", "by the sea", "in the north", "star"),
    "Belmor": Country("Misk", "wheat", "blue", "on a river", "in the south", "moon"),
    "Corland": Country("Norrow", "corn", "green", "in the hills", "in the east", "tree"),
    "Dunia": Country("Ostby", "barley", "yellow", "near a lake", "in the west", "bird"),
    "Elvara": Country("Pell", "cotton", "white", "in a forest", "in the north", "crown"),
    "Fenmark": Country("Quarn", "rye", "black", "by the sea", "in the west", "moon"),
    "Galdor": Country("Rimsby", "wheat", "green", "near a lake", "in the north", "bird"),
    "Hulma": Country("Sarn", "rice", "yellow", "in the hills", "in the south", "crown"),
}

VALUES: dict[str, tuple[str, ...]] = {
    attribute: tuple(dict.fromkeys(country.value(attribute) for country in COUNTRIES.values()))
    for attribute in ATTRIBUTES
}
"""Every value of an attribute, in order of first appearance."""

PLACES: dict[str, tuple[str, ...]] = {
    attribute: tuple(dict.fromkeys(country.detail(attribute) for country in COUNTRIES.values()))
    for attribute in ATTRIBUTES
}
"""Every detail of an attribute."""

NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
THINGS = ("apples", "books", "coins", "eggs")


class HouseholdTask(NamedTuple):
    """Four steps in their order, and a tip."""

    steps: tuple[str, str, str, str]
    tip: str
    topic: str  # the word that shows that a text is about this task


TASKS: dict[str, HouseholdTask] = {
    "make tea": HouseholdTask(
        ("boil the water", "put the leaves in a cup", "pour the water over the leaves", "wait for a few minutes"),
        "Fresh water tastes best.",
        "tea",
    ),
    "cook rice": HouseholdTask(
        ("wash the rice", "add water and salt", "cook it on low heat", "let it rest under the lid"),
        "Use more water than rice.",
        "rice",
    ),
    "bake bread": HouseholdTask(
        ("mix flour with water", "press the dough well", "let the dough rise", "bake it in a hot oven"),
        "A warm kitchen helps the dough.",
        "bread",
    ),
    "plant a tree": HouseholdTask(
        ("dig a deep hole", "set the roots in the hole", "fill the hole with earth", "water the tree"),
        "Spring is a good time for it.",
        "tree",
    ),
    "wash a car": HouseholdTask(
        ("rinse off the dust", "rub the car with soap", "rinse off the soap", "dry it with a soft cloth"),
        "Do it in the shade.",
        "car",
    ),
    "paint a wall": HouseholdTask(
        ("cover the floor", "clean the wall", "paint the corners", "paint the rest of the wall"),
        "Two thin coats look best.",
        "wall",
    ),
    "make a salad": HouseholdTask(
        ("wash the greens", "chop the tomatoes", "add oil and lemon", "stir it gently"),
        "Serve it cold.",
        "salad",
    ),
    "boil an egg": HouseholdTask(
        ("heat a pot of water", "lower the egg into the pot", "cook it for eight minutes", "cool it in cold water"),
        "Old eggs peel well.",
        "egg",
    ),
    "light a campfire": HouseholdTask(
        ("clear the ground", "stack dry wood", "light the small sticks", "add bigger logs"),
        "Keep water close.",
        "campfire",
    ),
}

NAMES = ("Mira", "Tom", "Anna", "Leo", "Nina", "Oscar")


class Mood(NamedTuple):
    good: bool
    advice: str


MOODS: dict[str, Mood] = {
    "happy": Mood(True, "Share it with a friend."),
    "proud": Mood(True, "You worked hard for it."),
    "calm": Mood(True, "Enjoy the quiet day."),
    "cheerful": Mood(True, "Tell me what made your day."),
    "sad": Mood(False, "A talk with a friend may help."),
    "tired": Mood(False, "A short rest may help."),
    "nervous": Mood(False, "Slow, deep breaths may help."),
    "lonely": Mood(False, "You could call your family."),
}

HOBBIES: dict[str, str] = {
    "painting": "Which colours do you use?",
    "chess": "Do you play with a clock?",
    "swimming": "Do you swim in a lake?",
    "baking": "What did you bake last?",
    "reading": "Which book are you reading now?",
    "gardening": "What grows in your garden?",
}

HARMS: dict[str, str] = {
    "steal a bike": "rent a bike",
    "cheat in an exam": "study with a friend",
    "break into a house": "call the owner",
    "read my sister's messages": "talk to your sister",
    "spread a lie about my boss": "look for another job",
    "make a fake ticket": "buy a cheap ticket",
    "scare a little child": "play a game together",
    "hurt a dog": "walk around the dog",
    "trick an old man": "earn the money with honest work",
    "start a fire at school": "talk to a teacher",
    "hide a stolen phone": "give the phone back",
    "copy a signature": "ask for a real signature",
    "drive home drunk": "take a taxi home",
    "damage a neighbour's car": "speak with the neighbour",
}
"""A harmful request, in mild words, and the safe alternative to it."""

ARTICLES = frozenset({"the", "a", "an", "your", "some", "it", "its"})


def strip_articles(words: list[str]) -> str:
    """Words as one string, articles left out: "boil the water" and "Boil water" are the same step."""
    return " ".join(word for word in words if word not in ARTICLES)
