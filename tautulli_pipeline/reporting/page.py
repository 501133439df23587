"""The page of a report: which parts have a meaning for the plays there are, and their HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tautulli_pipeline.reporting.charts import (
    KINDS,
    draw_heatmap,
    draw_over_time,
    places_of,
    unit_for,
)
from tautulli_pipeline.reporting.figures import Figures, Point, Rank, Scope, Streams, Totals
from tautulli_pipeline.reporting.wording import (
    count,
    date_of,
    duration,
    in_days,
    named,
    percent,
    span_of,
)

# Fewer say nothing about habits.
_FEWEST_FOR_HABITS: Final = 20
_FEWEST_BARS: Final = 3
_FEWEST_RANKS: Final = 2
_LONG_LIST: Final = 10
_SHORT_LIST: Final = 5
_WEEKDAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_LISTS: Final = {
    "shows": ("show", "watched", "Shows"),
    "films": ("film", "watched", "Films"),
    "artists": ("artist", "played", "Artists"),
    "programmes": ("programme", "watched", "Live TV"),
}
_REASONS: Final = {
    "video_changed": "Video converted",
    "audio_changed": "Audio converted",
    "subtitle_changed": "Subtitles converted or burned in",
    "container_changed": "Another container",
}


@dataclass(frozen=True)
class Tile:
    """A figure in large type.

    Attributes:
        label: what it is.
        value: the figure.
        note: more about it.
    """

    label: str
    value: str | Markup
    note: str | Markup = ""


@dataclass(frozen=True)
class Bar:
    """A line of a list with a bar.

    Attributes:
        name: what it is about.
        value: the figure that the bar shows, in words.
        note: another figure.
        parts: length of each part of the bar by its kind, in percent of the width.
    """

    name: str | Markup
    value: str
    note: str
    parts: dict[str, float]


@dataclass(frozen=True)
class Card:
    """A chart, a list of bars or a table, with a sentence that says what it shows.

    Attributes:
        title: the sentence.
        caption: what is counted, and in which unit.
        chart: the chart as SVG.
        kinds: the legend: kinds of bars or parts.
        bars: lines with bars.
        headings: of the columns of a table.
        rows: of the table.
    """

    title: str | Markup
    caption: str
    chart: Markup | None = None
    kinds: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str | Markup]] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        summary: what it is about, unless the page says so.
        tiles: figures in large type.
        cards: charts, lists and tables.
    """

    title: str
    summary: str
    tiles: Sequence[Tile]
    cards: Sequence[Card]


def render(figures: Figures, scope: Scope, today: date) -> str:
    """Return the page about a scope that has plays."""
    whole = figures.totals(scope)
    return _TEMPLATE.render(
        title=_title(scope),
        person=named(scope.person) if scope.person else "",
        summary=_summary(scope, whole),
        sections=[one for one in _sections(figures, scope, whole, today) if one.tiles or one.cards],
        timezone=figures.timezone(),
        made_on=date_of(today),
    )


def _title(scope: Scope) -> str:
    return f"{scope.year} in review" if scope.year else "Play history"


def _summary(scope: Scope, whole: Totals) -> str:
    people = f" by {count(whole.people, 'person').replace('persons', 'people')}"
    shown = "" if scope.person or whole.people == 1 else people
    return f"{count(whole.plays, 'play')}{shown} {span_of(whole.first_day, whole.last_day)}"


def _sections(figures: Figures, scope: Scope, whole: Totals, today: date) -> Iterator[Section]:
    years = figures.years(scope.person)
    if scope.year is None:
        year = replace(scope, year=years[-1])
        so_far = " so far" if years[-1] == today.year else ""
        has_more = len(years) > 1
        limit = _SHORT_LIST if has_more else _LONG_LIST
        title = f"{years[-1]} in review{so_far}"
        yield _review(figures, year, title, limit, with_summary=has_more)
        if has_more:
            yield _all_years(figures, scope, whole)
    else:
        yield _review(figures, scope, "")
    is_of_one = scope.person is not None or whole.people == 1
    habits = "When and on what" if is_of_one else "When, who and on what"
    yield Section(habits, "", (), [*_habits(figures, scope, whole)])
    yield Section("How it was streamed", "", (), [*_streaming(figures, scope, whole)])


def _review(
    figures: Figures,
    scope: Scope,
    title: str,
    limit: int = _LONG_LIST,
    *,
    with_summary: bool = False,
) -> Section:
    totals = figures.totals(scope)
    summary = _summary(scope, totals) if with_summary else ""
    cards = [*_hours_over_time(figures, scope, totals), *_favourites(figures, scope, limit)]
    return Section(title, summary, [*_tiles(figures, scope, totals)], cards)


def _all_years(figures: Figures, scope: Scope, whole: Totals) -> Section:
    tiles = [
        Tile("Time played", duration(whole.seconds), in_days(whole.seconds)),
        Tile("Plays", f"{whole.plays:,}", f"on {count(whole.days, 'day')}"),
        *_people_tile(scope, whole),
        Tile("Different titles", f"{whole.titles:,}"),
    ]
    cards = [
        _year_by_year(figures, scope, with_people=scope.person is None and whole.people > 1),
        *_plays_over_time(figures, scope, whole),
        *_favourites(figures, scope),
    ]
    return Section("All years", "", tiles, cards)


def _tiles(figures: Figures, scope: Scope, totals: Totals) -> Iterator[Tile]:
    if totals.seconds:
        yield Tile("Time played", duration(totals.seconds), in_days(totals.seconds))
    yield Tile(
        "Plays", f"{totals.plays:,}", f"on {count(totals.days, 'day')}" if totals.days > 1 else ""
    )
    yield from _people_tile(scope, totals)
    if totals.titles > 1:
        yield Tile("Different titles", f"{totals.titles:,}")
    busiest = figures.busiest_day(scope)
    if totals.days >= _FEWEST_BARS and busiest:
        day, seconds = busiest
        yield Tile(
            "Busiest day", f"{day.day} {day:%b}", f"{_WEEKDAYS[_weekday(day)]}, {duration(seconds)}"
        )
    binge = figures.longest_binge(scope)
    if binge:
        by = Markup("") if scope.person else Markup(" by {}").format(named(binge.person))
        note = Markup("{}{}, {}").format(named(binge.show), by, date_of(binge.day))
        yield Tile("Longest binge", count(binge.episodes, "episode"), note)
    for what, (one, _verb, _many) in _LISTS.items():
        ranks = figures.ranks(what, scope, _FEWEST_RANKS)
        if len(ranks) == 1:
            only = ranks[0]
            figures_of_it = filter(None, (_time(only), count(only.plays, "play")))
            yield Tile(f"The {one}", named(only.name), ", ".join(figures_of_it))


def _weekday(day: date) -> int:
    return day.isoweekday() % 7


def _people_tile(scope: Scope, totals: Totals) -> Iterator[Tile]:
    if scope.person is None and totals.people > 1:
        yield Tile("People", f"{totals.people:,}")


def _hours_over_time(figures: Figures, scope: Scope, totals: Totals) -> Iterator[Card]:
    unit = unit_for(totals.first_day, totals.last_day)
    points = figures.over_time(scope, unit, "hours")
    if not _is_worth_a_chart(points, unit):
        return
    peak, hours = _highest(points)
    if hours < 2:  # noqa: PLR2004 - hours would have decimals
        points = [replace(point, value=point.value * 60) for point in points]
    label = "minutes" if hours < 2 else "hours"  # noqa: PLR2004 - as above
    longest = duration(round(hours * 3600))
    caption = f"{label.capitalize()} played in each {unit}."
    title = f"{_named_time(peak, unit)} has the most time played: {longest}." if peak else caption
    yield Card(
        title,
        caption if peak else "",
        chart=draw_over_time(points, unit, label, title),
        kinds=_kinds(points),
    )


def _plays_over_time(figures: Figures, scope: Scope, totals: Totals) -> Iterator[Card]:
    unit = unit_for(totals.first_day, totals.last_day)
    points = figures.over_time(scope, unit, "plays")
    if _is_worth_a_chart(points, unit):
        peak, plays = _highest(points)
        caption = f"Plays that started in each {unit}."
        title = f"{_named_time(peak, unit)} has the most plays: {plays:,.0f}." if peak else caption
        yield Card(
            title,
            caption if peak else "",
            chart=draw_over_time(points, unit, "plays", title),
            kinds=_kinds(points),
        )


def _is_worth_a_chart(points: Sequence[Point], unit: str) -> bool:
    days = {point.day for point in points if point.value > 0}
    return len(days) > 1 and len(places_of(points, unit)) >= _FEWEST_BARS


def _highest(points: Sequence[Point]) -> tuple[date | None, float]:
    """Return the time with the highest sum over all kinds, and the sum.

    The time is None if several have this sum.
    """
    sums: dict[date, float] = {}
    for point in points:
        sums[point.day] = round(sums.get(point.day, 0) + point.value, 4)
    highest = max(sums.values())
    first, *others = [day for day, value in sums.items() if value == highest]
    return None if others else first, highest


def _named_time(place: date, unit: str) -> str:
    """Return a day, week, month or year as the subject of a sentence."""
    words = {
        "day": date_of(place),
        "week": f"The week from {date_of(place)}",
        "month": f"{place:%B %Y}",
        "year": f"{place.year}",
    }
    return words[unit]


def _when(place: date, unit: str) -> str:
    words = {
        "day": f"on {date_of(place)}",
        "week": f"in the week from {date_of(place)}",
        "month": f"in {place:%B %Y}",
        "year": f"in {place.year}",
    }
    return words[unit]


def _kinds(points: Sequence[Point]) -> list[str]:
    there = {point.kind for point in points if point.value > 0}
    return [kind for kind in KINDS if kind in there and kind != "All"]


def _favourites(figures: Figures, scope: Scope, limit: int = _LONG_LIST) -> Iterator[Card]:
    for what, (one, verb, many) in _LISTS.items():
        ranks = figures.ranks(what, scope, limit + 1)
        if len(ranks) >= _FEWEST_RANKS and not _is_arbitrary(ranks, limit):
            leads = f"is the most {verb} {one}."
            yield _ranked(ranks[:limit], leads, many, verb)


def _is_arbitrary(ranks: Sequence[Rank], limit: int) -> bool:
    """Whether only the alphabet decides which ones are in a list that is cut."""
    first, last = ranks[0], ranks[-1]
    return len(ranks) > limit and (first.seconds, first.plays) == (last.seconds, last.plays)


def _ranked(ranks: Sequence[Rank], leads: str, what: str, verb: str = "played") -> Card:
    """Return a list by time, or by plays if no time is known.

    Args:
        ranks: two or more.
        leads: what is true of the first one, unless the second one has as much.
        what: what is listed, in the plural.
        verb: what was done with it.
    """
    by_time = ranks[0].seconds > 0
    measured = [rank.seconds if by_time else rank.plays for rank in ranks]
    caption = f"{what} by time {verb}." if by_time else f"{what} by plays."
    bars = []
    for rank, measure in zip(ranks, measured, strict=True):
        plays = count(rank.plays, "play")
        value, note = (duration(rank.seconds), plays) if by_time else (plays, "")
        parts = {"All": round(100 * measure / measured[0], 2)}
        bars.append(Bar(named(rank.name), value, note, parts))
    if measured[0] == measured[1]:
        return Card(caption, "", bars=bars)
    return Card(Markup("{} {}").format(named(ranks[0].name), leads), caption, bars=bars)


def _time(rank: Rank) -> str:
    return duration(rank.seconds) if rank.seconds else ""


def _year_by_year(figures: Figures, scope: Scope, *, with_people: bool) -> Card:
    years = figures.by_year(scope)
    most = max(one.seconds for one in years)
    best, *others = [one.year for one in years if one.seconds == most]
    rows = [
        [
            f"{one.year}",
            duration(one.seconds),
            f"{one.plays:,}",
            *([f"{one.people:,}"] if with_people else []),
            named(one.title),
        ]
        for one in years
    ]
    headings = ["Year", "Time", "Plays", *(["People"] if with_people else []), "Most played"]
    caption = "Each year with plays."
    if others or not most:
        return Card(caption, "", headings=headings, rows=rows)
    title = f"{best} is the year with the most time played."
    return Card(title, caption, headings=headings, rows=rows)


def _habits(figures: Figures, scope: Scope, totals: Totals) -> Iterator[Card]:
    if scope.year is not None:
        yield from _plays_over_time(figures, scope, totals)
    if totals.plays >= _FEWEST_FOR_HABITS and totals.days >= _FEWEST_BARS:
        cells = figures.heatmap(scope)
        weekday, hour, plays = cells[0]
        caption = "Plays by day of the week and hour of their start."
        title = f"The hour with the most plays is {_WEEKDAYS[weekday]}, {hour}:00 to {hour + 1}:00."
        if cells[1][2] == plays:
            title, caption = caption, ""
        if plays > 1:
            strongest = f"The strongest colour stands for {count(plays, 'play')}."
            yield Card(title, f"{caption} {strongest}".strip(), chart=draw_heatmap(cells, title))
    if scope.person is None:
        ranks = figures.ranks("people", scope)
        if len(ranks) >= _FEWEST_RANKS:
            yield _ranked(ranks, "plays the most.", "People")
    ranks = figures.ranks("platforms", scope)
    if len(ranks) >= _FEWEST_RANKS:
        leads = "is the platform that is used the most."
        yield _ranked(ranks, leads, "Platforms")


def _streaming(figures: Figures, scope: Scope, totals: Totals) -> Iterator[Card]:
    streams = figures.streams(scope)
    changed = streams[0].plays - streams[0].direct_play if streams else 0
    if changed and streams[0].plays >= _FEWEST_FOR_HABITS:
        yield _stream_types(streams)
        yield from _reasons(figures, scope, streams[0].transcode)
    if scope.person is None:
        yield from _load(figures, scope.year, unit_for(totals.first_day, totals.last_day))


def _stream_types(streams: Sequence[Streams]) -> Card:
    everything, *platforms = streams
    shown = streams if len(platforms) > 1 else [everything]
    bars = [
        Bar(
            "All platforms" if one is everything else named(one.platform),
            f"{percent(one.transcode, one.plays)} transcoded",
            "",
            {
                kind: round(100 * number / one.plays, 2)
                for kind, number in (
                    ("Direct Play", one.direct_play),
                    ("Direct Stream", one.direct_stream),
                    ("Transcode", one.transcode),
                )
                if number
            },
        )
        for one in shown
    ]
    kinds = [
        kind
        for kind in ("Direct Play", "Direct Stream", "Transcode")
        if any(kind in bar.parts for bar in bars)
    ]
    direct = percent(everything.direct_play, everything.plays)
    return Card(
        f"{direct} of the plays got the file as it is.",
        "Direct Play sends the file as it is, Direct Stream in another container, and Transcode "
        "converts video, audio or subtitles.",
        kinds=kinds,
        bars=bars,
    )


def _reasons(figures: Figures, scope: Scope, transcoded: int) -> Iterator[Card]:
    reasons = {why: plays for why, plays in figures.transcode_reasons(scope).items() if plays}
    if transcoded >= _FEWEST_BARS and reasons:
        by_number = sorted(reasons.items(), key=lambda item: -item[1])
        bars = [
            Bar(
                _REASONS[why],
                percent(plays, transcoded),
                count(plays, "play"),
                {"Transcode": 100 * plays / transcoded},
            )
            for why, plays in by_number
        ]
        video = percent(reasons.get("video_changed", 0), transcoded)
        yield Card(
            f"The video was converted in {video} of the transcoded plays.",
            f"What was changed in {count(transcoded, 'transcoded play')}. A play can have several "
            "changes.",
            bars=bars,
        )
    conversions = figures.conversions(scope)
    if conversions and sum(plays for *_, plays in conversions) >= _FEWEST_BARS:
        source, target, most = conversions[0]
        bars = [
            Bar(f"{one} to {other}", count(plays, "play"), "", {"Transcode": 100 * plays / most})
            for one, other, plays in conversions
        ]
        yield Card(
            f"Video is converted most often from {source} to {target}.",
            "Resolution of the file and of the stream.",
            bars=bars,
        )


def _load(figures: Figures, year: int | None, unit: str) -> Iterator[Card]:
    peaks = figures.peaks(year, unit)
    if peaks and _highest(peaks)[1] > 1 and _is_worth_a_chart(peaks, unit):
        last = date_of(figures.day_of_peak(year))
        most = _highest(peaks)[1]
        title = f"At most {most:.0f} streams ran at the same time, last on {last}."
        chart = draw_over_time(peaks, unit, "streams", title)
        yield Card(title, f"The most streams at the same time in each {unit}.", chart=chart)
    bandwidth = figures.bandwidth(year, unit)
    if bandwidth and _is_worth_a_chart(bandwidth, unit):
        peak, mbps = _highest(bandwidth)
        shown = f"{mbps:,.0f}" if mbps >= 10 else f"{mbps:.1f}"  # noqa: PLR2004 - decimals matter
        when = f", {_when(peak, unit)}" if peak else ""
        title = f"The streams needed up to {shown} Mbit/s together{when}."
        chart = draw_over_time(bandwidth, unit, "Mbit/s", title)
        caption = (
            f"The highest bandwidth of all streams together in each {unit}, as Plex reserved it."
        )
        yield Card(title, caption, chart=chart)


_TEMPLATE: Final = Environment(
    loader=PackageLoader("tautulli_pipeline.reporting", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("report.html.jinja")
