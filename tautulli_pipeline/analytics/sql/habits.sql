CREATE TABLE completion AS
SELECT person, item_id, any_value(media) AS media, max(full_title) AS full_title,
    max("show") AS "show", count(*) AS plays, count(DISTINCT watch_id) AS watches,
    max(percent_watched) AS furthest_percent, bool_or(watched) AS watched,
    min(started_at) AS first_played_at, max(started_at) AS last_played_at
FROM plays
WHERE media <> 'Live TV'
GROUP BY person, item_id;

CREATE TABLE completion_by_item AS
SELECT item_id, any_value(media) AS media, max(full_title) AS full_title,
    max("show") AS "show", count(*) AS starts, count(*) FILTER (watched) AS finishes,
    median(furthest_percent) AS median_percent
FROM completion
GROUP BY item_id
ORDER BY starts DESC, item_id;

CREATE TABLE heatmap AS
SELECT weekday, "hour", media, count(*) AS plays, sum(seconds)::BIGINT AS seconds
FROM plays GROUP BY ALL ORDER BY ALL;

CREATE TABLE binges AS
WITH episodes AS (
    SELECT person, show_id, "show", item_id, started_at_utc, seconds, watched_seconds,
        coalesce(stopped_at_utc, started_at_utc) AS stopped_at_utc
    FROM plays
    WHERE show_id IS NOT NULL
),
spaced AS (
    SELECT *, started_at_utc - max(stopped_at_utc) OVER (
            PARTITION BY person, show_id ORDER BY started_at_utc, stopped_at_utc
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) > INTERVAL 30 MINUTES AS is_new
    FROM episodes
),
numbered AS (
    SELECT *, count(*) FILTER (is_new) OVER (
            PARTITION BY person, show_id ORDER BY started_at_utc, stopped_at_utc
            ROWS UNBOUNDED PRECEDING
        ) AS run
    FROM spaced
)
SELECT person, show_id, max("show") AS "show", local(min(started_at_utc)) AS started_at,
    local(max(stopped_at_utc)) AS stopped_at, count(DISTINCT item_id) AS episodes,
    count(*) AS plays, sum(seconds)::BIGINT AS seconds,
    sum(watched_seconds)::BIGINT AS watched_seconds
FROM numbered
GROUP BY person, show_id, run
HAVING count(DISTINCT item_id) >= 3
ORDER BY started_at, person, show_id;

CREATE TABLE rewatches AS
WITH ordered AS (
    SELECT id, started_at_utc,
        first_value(started_at_utc) OVER earlier AS first_watched_at_utc,
        lag(started_at_utc) OVER earlier AS previous_watched_at_utc
    FROM plays
    WHERE watched AND media <> 'Live TV'
    WINDOW earlier AS (PARTITION BY person, item_id ORDER BY started_at_utc)
),
repeated AS (
    SELECT * FROM ordered WHERE started_at_utc - first_watched_at_utc > INTERVAL 24 HOURS
)
SELECT p.person, p.item_id, p.media, p.full_title, p."show", p.id, p.started_at,
    local(first_watched_at_utc) AS first_watched_at,
    local(previous_watched_at_utc) AS previous_watched_at,
    p.seconds, p.watched_seconds
FROM plays p JOIN repeated USING (id);

CREATE TABLE transcode_reasons AS
SELECT platform, stream_type, video_changed, audio_changed, container_changed, subtitle_changed,
    count(*) AS plays, sum(seconds)::BIGINT AS seconds
FROM plays
WHERE stream_type <> 'Direct Play'
GROUP BY ALL ORDER BY ALL;

-- The sum over running plays is a staircase. It is cut where a quarter of an hour begins, because
-- the local hours of every time zone begin there.
CREATE TABLE bandwidth_by_hour AS
WITH streams AS (
    SELECT started_at_utc, bandwidth_kbps,
        least(stopped_at_utc, started_at_utc + INTERVAL 24 HOURS) AS stopped_at_utc
    FROM plays
    WHERE bandwidth_kbps > 0 AND stopped_at_utc > started_at_utc
),
changes AS (
    SELECT started_at_utc AS moment, bandwidth_kbps::DOUBLE AS change FROM streams
    UNION ALL
    SELECT stopped_at_utc, -bandwidth_kbps::DOUBLE FROM streams
    UNION ALL
    SELECT unnest(generate_series("day", "day" + INTERVAL 1425 MINUTES, INTERVAL 15 MINUTES)), 0
    FROM (
        SELECT DISTINCT unnest([started_at_utc::DATE, started_at_utc::DATE + 1]) AS "day"
        FROM streams
    )
),
steps AS (
    SELECT moment, sum(change) AS change FROM changes GROUP BY moment
),
staircase AS (
    SELECT moment, sum(change) OVER running AS kbps,
        epoch(lead(moment) OVER running - moment) AS seconds
    FROM steps
    WINDOW running AS (ORDER BY moment)
),
quarters AS (
    SELECT time_bucket(INTERVAL 15 MINUTES, moment) AS quarter, sum(kbps * seconds) AS kilobits,
        max(kbps) AS peak_kbps
    FROM staircase
    WHERE kbps > 0
    GROUP BY ALL
),
hours AS (
    SELECT date_trunc('hour', local(quarter)) AS "hour", sum(kilobits) AS kilobits,
        max(peak_kbps)::BIGINT AS peak_kbps
    FROM quarters
    GROUP BY ALL
)
SELECT "hour"::DATE AS "day", hour("hour")::TINYINT AS "hour",
    -- An hour that comes twice, when clocks are set back, is two hours long.
    round(kilobits / greatest(3600, epoch(
        timezone(getvariable('timezone'), "hour" + INTERVAL 3599 SECONDS)
        - timezone(getvariable('timezone'), "hour" - INTERVAL 1 SECOND)
    )))::BIGINT AS mean_kbps,
    peak_kbps
FROM hours
ORDER BY ALL;

CREATE TABLE people_by_month AS
WITH months AS (
    SELECT date_trunc('month', "day")::DATE AS "month", person, count(*) AS plays,
        sum(watched_seconds)::BIGINT AS watched_seconds
    FROM plays GROUP BY ALL
),
ordered AS (
    SELECT *, min("month") OVER (PARTITION BY person) AS first_month FROM months
)
SELECT "month", count(*) AS people, count(*) FILTER ("month" = first_month) AS new_people,
    sum(plays)::BIGINT AS plays, sum(watched_seconds)::BIGINT AS watched_seconds
FROM ordered GROUP BY ALL ORDER BY ALL;

CREATE TABLE year_in_review AS
WITH years AS (
    SELECT year("day") AS "year", person, count(*) AS plays,
        count(DISTINCT watch_id) AS watches, sum(watched_seconds)::BIGINT AS watched_seconds
    FROM plays GROUP BY ALL
),
days AS (
    SELECT year("day") AS "year", person, "day",
        sum(watched_seconds)::BIGINT AS watched_seconds
    FROM plays GROUP BY ALL
),
busiest AS (
    SELECT "year", person, arg_max("day", (watched_seconds, -epoch("day"))) AS busiest_day,
        max(watched_seconds) AS busiest_day_seconds
    FROM days GROUP BY ALL
),
titles AS (
    SELECT year("day") AS "year", person, coalesce("show", artist, full_title) AS title,
        sum(watched_seconds) AS watched_seconds, count(*) AS plays
    FROM plays GROUP BY ALL
),
favourites AS (
    SELECT "year", person, arg_max(title, (watched_seconds, plays, title), 5) AS top_titles
    FROM titles GROUP BY ALL
),
longest AS (
    SELECT year(started_at) AS "year", person,
        arg_max("show", (episodes, watched_seconds, "show")) AS longest_binge_show,
        max(episodes) AS longest_binge_episodes
    FROM binges GROUP BY ALL
)
SELECT "year", person, plays, watches, round(y.watched_seconds / 3600, 1) AS "hours", top_titles,
    busiest_day, round(busiest_day_seconds / 3600, 1) AS busiest_day_hours,
    longest_binge_show, longest_binge_episodes
FROM years y
JOIN busiest USING ("year", person)
JOIN favourites USING ("year", person)
LEFT JOIN longest USING ("year", person)
ORDER BY "year", person;
