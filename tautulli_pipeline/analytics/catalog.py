"""What `analytics.duckdb` holds: every table with its description, columns, key and sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Table:
    """A table of the analytics.

    Attributes:
        name: its name in the file.
        group: what people look for it under.
        built_from: the tables that it is computed from; `playback_events` is the warehouse's.
        description: what a row is, and how the figures are defined.
        key: columns that no two rows share.
        columns: names of its columns, in order.
        counted: a condition for the plays that the column `plays` adds up to; None if it does not.
    """

    name: str
    group: str
    built_from: tuple[str, ...]
    description: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    counted: str | None = None

    def comment(self, column: str) -> str:
        """Return the comment of a column."""
        return COMMENTS.get(f"{self.name}.{column}") or COMMENTS[column]

    def type(self, column: str) -> str:
        """Return the SQL type of a column."""
        return _TYPES.get(column, "VARCHAR")


def _columns(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_FIGURES: Final = "plays watches seconds"
_TOP: Final = f"{_FIGURES} users last_played_at"
_STREAM_COUNT: Final = "stream_type IS NOT NULL"
_VIDEO_STREAMS: Final = "stream_type IS NOT NULL AND media_type IN ('movie', 'episode')"


def _plays_by(dimension: str, words: str) -> Table:
    names = _columns(dimension)
    return Table(
        f"plays_by_{'user' if len(names) > 1 else names[0]}",
        "plays_over_time" if len(names) == 1 and names[0] != "platform" else "who_and_where",
        ("plays",),
        f"Plays, watches and seconds by {words} and media, as in Tautulli's graphs.",
        (*(name for name in names if name != "user_name"), "media"),
        _columns(f"{dimension} media {_FIGURES}"),
        "true",
    )


def _streams_by(name: str, dimension: str, words: str, counted: str = _STREAM_COUNT) -> Table:
    names = _columns(dimension)
    return Table(
        f"streams_by_{name}",
        "streams",
        ("plays",),
        f"Plays and seconds by {words} and stream type, as in Tautulli's graphs. Plays whose "
        "stream type is unknown are left out.",
        (*(name for name in names if name != "user_name"), "stream_type"),
        _columns(f"{dimension} stream_type plays seconds"),
        counted,
    )


def _top(name: str, dimension: str, description: str, counted: str, key: str = "") -> Table:
    return Table(
        f"top_{name}",
        "most_played",
        ("plays",),
        description,
        _columns(key or dimension),
        _columns(f"{dimension} {_TOP}"),
        counted,
    )


TABLES: Final = (
    Table(
        "plays",
        "plays",
        ("playback_events",),
        "One row per play, with its newest content and the newest names. Times are local; the "
        "columns that end in _utc are for spans of time, which local clocks get wrong twice a "
        "year.",
        ("id",),
        _columns("""
            id watch_id server_id person user_id user_name started_at stopped_at day hour weekday
            started_at_utc stopped_at_utc media media_type title full_title show season episode
            artist year genres section_id library item_id show_id seconds watched_seconds
            paused_seconds runtime_seconds percent_watched watched stream_type video_changed
            audio_changed container_changed subtitle_changed source_resolution stream_resolution
            platform player product device is_local is_secure is_relayed bandwidth_kbps
            bitrate_kbps stream_bitrate_kbps source row_id
        """),
    ),
    Table(
        "watches",
        "plays",
        ("plays",),
        "One row per watch: the plays that Tautulli groups because somebody paused and went on "
        "later. A group is split where the user or the item differs. Descriptive columns are "
        "those of its last play.",
        ("watch_id",),
        _columns("""
            watch_id server_id person user_id user_name started_at stopped_at day hour weekday
            media title full_title show season episode year library item_id show_id plays seconds
            watched_seconds paused_seconds runtime_seconds percent_watched watched stream_type
            platform player
        """),
        "true",
    ),
    Table(
        "recently_watched",
        "plays",
        ("plays",),
        "The last 1,000 films and episodes that somebody watched to 85 %, the newest first. As "
        "in Tautulli, an item of unknown length counts as watched, and live TV by its offset.",
        ("id",),
        _columns("""
            id watch_id server_id person user_id user_name started_at media full_title year
            library item_id player row_id ends_watch
        """),
    ),
    _plays_by("day", "day"),
    _plays_by("weekday", "day of the week"),
    _plays_by("hour", "hour of the day"),
    _plays_by("month", "month"),
    _plays_by("platform", "platform"),
    _plays_by("server_id user_id user_name", "user"),
    Table(
        "streams_by_day",
        "streams",
        ("plays",),
        "Plays, seconds and the most streams at the same time by day and stream type. The stream "
        "type All counts them all. As in Tautulli, a day has the plays that started on it.",
        ("day", "stream_type"),
        _columns("day stream_type plays seconds peak_concurrent"),
    ),
    _streams_by("platform", "platform", "platform"),
    _streams_by("user", "server_id user_id user_name", "user"),
    _streams_by(
        "source_resolution",
        "resolution",
        "resolution of the file, for films and episodes,",
        _VIDEO_STREAMS,
    ),
    _streams_by(
        "stream_resolution",
        "resolution",
        "resolution of the stream, for films and episodes,",
        _VIDEO_STREAMS,
    ),
    Table(
        "concurrency",
        "streams",
        ("plays",),
        "The most streams at the same time, in all of history, and the last time that so many ran.",
        ("stream_type",),
        _columns("stream_type peak started_at stopped_at"),
    ),
    _top(
        "movies",
        "title year",
        "Films by full title and year, also those on live TV, the most played first.",
        "media_type = 'movie'",
    ),
    _top(
        "shows",
        "title",
        "Shows by title, also those on live TV, the most played first.",
        "media_type = 'episode'",
    ),
    _top(
        "artists",
        "title",
        "Artists, the most played first: the artist of the track, or else of the album.",
        "media_type = 'track'",
    ),
    _top(
        "users",
        "server_id user_id user_name username",
        "Users, the most active first.",
        "true",
        "server_id user_id",
    ),
    _top("platforms", "platform", "Platforms, the most used first.", "true"),
    _top(
        "libraries",
        "server_id section_id library",
        "Libraries, the most used first.",
        "true",
        "server_id section_id",
    ),
    Table(
        "completion",
        "habits",
        ("plays",),
        "How far each person got in each item, without live TV.",
        ("person", "item_id"),
        _columns("""
            person item_id media full_title show plays watches furthest_percent watched
            first_played_at last_played_at
        """),
        "media <> 'Live TV'",
    ),
    Table(
        "completion_by_item",
        "habits",
        ("completion",),
        "How many people started each item and how many finished it, without live TV.",
        ("item_id",),
        _columns("item_id media full_title show starts finishes median_percent"),
    ),
    Table(
        "heatmap",
        "habits",
        ("plays",),
        "Plays and seconds by day of the week, hour of the day and media.",
        ("weekday", "hour", "media"),
        _columns("weekday hour media plays seconds"),
        "true",
    ),
    Table(
        "binges",
        "habits",
        ("plays",),
        "Three or more different episodes of one show, played by one person with gaps of at most "
        "30 minutes between a stop and the next start. Without live TV.",
        ("person", "show_id", "started_at"),
        _columns("""
            person show_id show started_at stopped_at episodes plays seconds watched_seconds
        """),
    ),
    Table(
        "rewatches",
        "habits",
        ("plays",),
        "Watched plays that started more than 24 hours after an earlier watched play of the same "
        "item by the same person. Without live TV.",
        ("id",),
        _columns("""
            person item_id media full_title show id started_at first_watched_at
            previous_watched_at seconds watched_seconds
        """),
    ),
    Table(
        "transcode_reasons",
        "streams",
        ("plays",),
        "What the server changed in plays that were not played directly, by platform. Add up the "
        "rows in which a column is true to count the plays in which that was changed.",
        (
            *("platform", "stream_type", "video_changed"),
            *("audio_changed", "container_changed", "subtitle_changed"),
        ),
        _columns("""
            platform stream_type video_changed audio_changed container_changed subtitle_changed
            plays seconds
        """),
        "stream_type <> 'Direct Play'",
    ),
    Table(
        "bandwidth_by_hour",
        "streams",
        ("plays",),
        "The bandwidth of all running plays together, in hours with any. A play counts from its "
        "start to its stop, pauses included, but for 24 hours at most.",
        ("day", "hour"),
        _columns("day hour mean_kbps peak_kbps"),
    ),
    Table(
        "people_by_month",
        "habits",
        ("plays",),
        "How many people played anything in a month, and how many of them for the first time.",
        ("month",),
        _columns("month people new_people plays watched_seconds"),
        "true",
    ),
    Table(
        "year_in_review",
        "habits",
        ("plays", "binges"),
        "The year of each person. Time is watched_seconds.",
        ("year", "person"),
        _columns("""
            year person plays watches hours top_titles busiest_day busiest_day_hours
            longest_binge_show longest_binge_episodes
        """),
        "true",
    ),
    Table(
        "about",
        "plays",
        ("plays",),
        "One row: when and how this file was built.",
        ("built_at",),
        _columns("built_at timezone plays"),
        "true",
    ),
)

_TYPES: Final = {
    **dict.fromkeys(("id", "watch_id"), "UUID"),
    **dict.fromkeys(
        _columns("""
            started_at stopped_at started_at_utc stopped_at_utc last_played_at first_played_at
            first_watched_at previous_watched_at built_at
        """),
        "TIMESTAMP",
    ),
    **dict.fromkeys(("day", "month", "busiest_day"), "DATE"),
    **dict.fromkeys(("hour", "weekday"), "TINYINT"),
    **dict.fromkeys(("percent_watched", "furthest_percent"), "UTINYINT"),
    **dict.fromkeys(
        _columns("""
            watched video_changed audio_changed container_changed subtitle_changed is_local
            is_secure is_relayed ends_watch
        """),
        "BOOLEAN",
    ),
    **dict.fromkeys(("hours", "busiest_day_hours", "median_percent"), "DOUBLE"),
    **dict.fromkeys(
        _columns("""
            season episode year section_id seconds watched_seconds paused_seconds runtime_seconds
            bandwidth_kbps bitrate_kbps stream_bitrate_kbps row_id plays watches peak_concurrent
            peak users starts finishes episodes mean_kbps peak_kbps people new_people
            longest_binge_episodes
        """),
        "BIGINT",
    ),
    "user_id": "INTEGER",
    "top_titles": "VARCHAR[]",
}

# Comments of columns; `table.column` is for one table alone.
COMMENTS: Final = {
    "id": "Id of the play; the same as in playback_events of the warehouse.",
    "watch_id": "Id of the watch that the play belongs to; it does not depend on row numbers. "
    "Where a database has no groups, plays of an item that a user played in a row are one watch, "
    "as after Tautulli's upgrade.",
    "server_id": "The Plex server.",
    "person": "Who watched. The newest name of the account, which is the same person on every "
    "server; of two people with one name, each also has the user name.",
    "user_id": "Id of the user on the server. 0 is a local user.",
    "user_name": "The newest friendly name of the user, or else the user name.",
    "username": "The name that the user logs in with; if it is unknown, `user` and the id.",
    "started_at": "Start, in local time.",
    "stopped_at": "Stop, in local time; NULL if it was never logged.",
    "started_at_utc": "Start, in UTC.",
    "stopped_at_utc": "Stop, in UTC; NULL if it was never logged.",
    "day": "Local date of the start.",
    "hour": "Local hour of the start, 0 to 23.",
    "weekday": "Local day of the week of the start; 0 is Sunday.",
    "month": "Local month of the start: its first day.",
    "media": "TV, Movies, Music, Live TV or Other.",
    "media_type": "Plex's type: movie, episode, track, clip. Live TV has movies and episodes.",
    "title": "Title of the item.",
    "full_title": "Title of the item with its show or artist.",
    "show": 'Show of an episode. Write it in quotes, "show": it is a word of SQL.',
    "season": "Number of the season of an episode.",
    "episode": "Number of the episode in its season.",
    "artist": "Artist of a track, or else of its album.",
    "year": "Year of the item.",
    "genres": "Genres of the item, separated by semicolons.",
    "section_id": "Id of the library on the server.",
    "library": "The newest name of the library.",
    "item_id": "The item: its guid if that means the same on every server, with the guids of "
    "Plex's old agents replaced by the new ones; otherwise an id within the server.",
    "show_id": "The show of an episode: its title in lower case, as Tautulli groups shows by "
    "title. NULL on live TV.",
    "seconds": "Seconds from start to stop without pauses, as in Tautulli. Negative if Tautulli "
    "recorded a longer pause.",
    "watched_seconds": "seconds, but at least 0 and at most the length of the item where known.",
    "paused_seconds": "Seconds of pause.",
    "runtime_seconds": "Length of the item in seconds; NULL if unknown.",
    "percent_watched": "Percentage of the item at the stop, 0 to 100; NULL if its length is "
    "unknown. 100 on live TV, as in Tautulli.",
    "watched": "Whether it counts as watched: at 85 %, or at the first credits marker. Always on "
    "live TV, as in Tautulli.",
    "stream_type": "Direct Play, Direct Stream or Transcode; NULL if unknown.",
    "video_changed": "Whether the video was transcoded.",
    "audio_changed": "Whether the audio was transcoded.",
    "container_changed": "Whether the file was put into another container.",
    "subtitle_changed": "Whether the subtitles were transcoded or burned in.",
    "source_resolution": "Resolution of the file, such as 1080p, 4k or SD.",
    "stream_resolution": "Resolution that was sent.",
    "resolution": "The resolution; NULL if unknown.",
    "platform": "Platform of the player, such as Roku.",
    "player": "Name of the player.",
    "product": "Product of the player, such as Plex Web.",
    "device": "Id of the device that played.",
    "is_local": "Whether the player was in the server's own network.",
    "is_secure": "Whether the connection was encrypted; NULL if unknown.",
    "is_relayed": "Whether the connection went through Plex's relay; NULL if unknown.",
    "bandwidth_kbps": "Bandwidth that Plex reserved, in kbit/s.",
    "bitrate_kbps": "Bit rate of the file, in kbit/s.",
    "stream_bitrate_kbps": "Bit rate that was sent, in kbit/s.",
    "source": "What reported the play; tautulli-import for this pipeline.",
    "row_id": "Row number in Tautulli when the play was imported.",
    "plays": "Number of plays.",
    "watches": "Number of watches: plays that belong together count as one.",
    "users": "Number of people.",
    "last_played_at": "Start of the last play, in local time.",
    "first_played_at": "Start of the first play, in local time.",
    "peak_concurrent": "The most streams at the same time.",
    "peak": "The most streams at the same time.",
    "furthest_percent": "The highest percent_watched; NULL if the length is unknown.",
    "starts": "Number of people who played it.",
    "finishes": "Number of people who watched it.",
    "median_percent": "Median of furthest_percent over its people.",
    "episodes": "Number of different episodes.",
    "first_watched_at": "Start of the first watched play, in local time.",
    "previous_watched_at": "Start of the watched play before this one, in local time.",
    "ends_watch": "Whether it is the last play of its watch. With these rows alone, the list is "
    "Tautulli's with grouping.",
    "mean_kbps": "Mean over the whole hour, in kbit/s.",
    "peak_kbps": "Highest value, in kbit/s.",
    "people": "Number of people.",
    "new_people": "People whose first play ever was in this month.",
    "hours": "Hours watched, cleaned as in watched_seconds.",
    "top_titles": "Up to five films, shows or artists, by watched time.",
    "busiest_day": "The day with the most watched time; the first of equals.",
    "busiest_day_hours": "Hours watched on that day.",
    "longest_binge_show": "Show of the binge with the most episodes that began in this year.",
    "longest_binge_episodes": "Its number of episodes.",
    "built_at": "When the file was built, in local time.",
    "timezone": "The time zone of all local times.",
    "top_movies.title": "Full title.",
    "top_shows.title": "Title of the show.",
    "top_artists.title": "Name of the artist.",
    "watches.plays": "Number of plays of the watch.",
    "watches.watch_id": "Id of the watch; it does not depend on row numbers.",
    "watches.seconds": "Sum over its plays.",
    "watches.watched_seconds": "Sum over its plays.",
    "watches.paused_seconds": "Sum over its plays.",
    "watches.percent_watched": "The highest of its plays.",
    "watches.watched": "Whether any of its plays counts as watched.",
    "watches.started_at": "Start of its first play, in local time.",
    "watches.stopped_at": "Last stop of its plays, in local time.",
    "concurrency.stream_type": "Direct Play, Direct Stream, Transcode, or All.",
    "concurrency.started_at": "Since when so many ran, in local time.",
    "concurrency.stopped_at": "Until when so many ran, in local time.",
    "streams_by_day.stream_type": "Direct Play, Direct Stream, Transcode, or All.",
    "binges.started_at": "Start of the first play, in local time.",
    "binges.stopped_at": "Last stop, in local time.",
    "bandwidth_by_hour.day": "Local date.",
    "bandwidth_by_hour.hour": "Local hour, 0 to 23.",
    "completion.watched": "Whether any play counts as watched.",
    "year_in_review.year": "Local year of the starts.",
    "about.plays": "Number of rows in plays.",
}
