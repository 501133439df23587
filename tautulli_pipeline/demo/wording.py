"""Made-up titles, people and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tautulli_pipeline.demo.dice import Dice

_ADJECTIVES = (
    "Amber Borrowed Cold Crooked Distant Electric Empty Final Forgotten Gentle Hollow "
    "Invisible Last Midnight Northern Paper Quiet Restless Silent Señor Third Über Velvet"
)
_NOUNS = (
    "Anchor Bridge Captain Cartographer Cinéma Clock Daughter Engine Forest Garden Harbour "
    "Island Kitchen Lantern Letter Mountain Orchard Piano River Satellite Train Witness Zoë"
)
# Titles that break careless quoting, trimming, lowercasing or encoding.
_AWKWARD_TITLES = (
    "O'Hara's \"Last\" Stand",
    "東京の夜",
    "🍿 Popcorn Night 👩‍🚀",
    "Robert'); DROP TABLE plays;--",
    "50% Off: A Love Story",
    "C:\\Films\\New",
    "Ночной поезд",
    "  Padded  ",
    "null",
    "<b>Bold</b> & Brave",
    "Two\nLines",
    "{curly} [square] $dollar",
)
_FIRST_NAMES = (
    "Ada Bjørn Chloé Dmitri Elif Farid Greta Håkon Inês Jun Kofi Leïla Mateo Nadia Oskar "
    "Priya Quinn Rosa Seán Tuva Umut Vera Wen Ximena Yusuf Zofia"
)
_LAST_NAMES = (
    "Abelard Brightwater Castellan D'Arcy Eklund Fairweather Grimaldi Hollander Ishikawa "
    "Jankowski Karvonen Lindqvist Moreau Nakamura O'Sullivan Pettersson Quintana Rosenthal "
    "Szymański Tremblay Underhill Vasquez Whitlock Yamamoto Zimmermann"
)
_SENTENCES = (
    "A small town wakes to find that the river has changed its course overnight.",
    "It's the captain's last winter, and the ice won't wait for anyone.",
    "Nobody remembers who opened the door; “that was never the question,” she says.",
    "Two sisters inherit a piano, a debt & a map with one street missing.",
    "When the lights go out, the orchestra keeps playing — and somebody keeps score.",
    "He has told the story so often that the other driver has begun to believe it.",
    "An archivist follows a misfiled letter across three borders and one marriage.",
    "What begins as a bet over a borrowed bicycle ends in the mayor's office.",
    "The lighthouse has been automatic for years, yet someone still signs the log.",
)
GENRES = ("Action", "Comedy", "Crime", "Documentary", "Drama", "Family", "Sci-Fi", "Thriller")
STUDIOS = ("Studio & Sons", "Nørrebro Film", "Kestrel Pictures", "Grand Café", "夜行映画")


def title(dice: Dice) -> str:
    """Return a title; about one in twelve is awkward."""
    if dice.chance(1 / 12):
        return dice.choice(_AWKWARD_TITLES)
    return f"The {dice.choice(_ADJECTIVES.split())} {dice.choice(_NOUNS.split())}"


def person(dice: Dice) -> str:
    """Return a made-up first and last name."""
    return f"{dice.choice(_FIRST_NAMES.split())} {dice.choice(_LAST_NAMES.split())}"


def people(dice: Dice, least: int, most: int) -> str:
    """Return names joined by ';', as Tautulli stores casts and crews."""
    return ";".join(person(dice) for _ in range(dice.randint(least, most)))


def genres(dice: Dice) -> str:
    """Return one to three genres joined by ';'."""
    return ";".join(dice.sample(GENRES, dice.randint(1, 3)))


def summary(dice: Dice) -> str:
    """Return a plot summary of 200 to 600 characters."""
    text, wanted = "", dice.randint(200, 520)
    while len(text) < wanted:
        text = f"{text} {dice.choice(_SENTENCES)}".lstrip()
    return text
