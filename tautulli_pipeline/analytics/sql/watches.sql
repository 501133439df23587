CREATE TABLE watches AS
WITH repeated AS (
    SELECT watch_id FROM plays GROUP BY watch_id HAVING count(*) > 1
),
summed AS (
    SELECT watch_id,
        arg_max(id, (started_at_utc, id)) AS id,
        arg_min(started_at, started_at_utc) AS started_at,
        arg_max(stopped_at, stopped_at_utc) AS stopped_at,
        count(*) AS plays,
        sum(seconds)::BIGINT AS seconds,
        sum(watched_seconds)::BIGINT AS watched_seconds,
        sum(paused_seconds)::BIGINT AS paused_seconds,
        max(percent_watched) AS percent_watched,
        bool_or(watched) AS watched
    FROM plays SEMI JOIN repeated USING (watch_id)
    GROUP BY watch_id
)
SELECT watch_id, p.server_id, p.person, p.user_id, p.user_name,
    coalesce(s.started_at, p.started_at) AS started_at,
    coalesce(s.stopped_at, p.stopped_at) AS stopped_at,
    coalesce(s.started_at, p.started_at)::DATE AS "day",
    hour(coalesce(s.started_at, p.started_at))::TINYINT AS "hour",
    dayofweek(coalesce(s.started_at, p.started_at))::TINYINT AS weekday,
    p.media, p.title, p.full_title, p."show", p.season, p.episode, p.year, p.library, p.item_id,
    p.show_id,
    coalesce(s.plays, 1) AS plays,
    coalesce(s.seconds, p.seconds) AS seconds,
    coalesce(s.watched_seconds, p.watched_seconds) AS watched_seconds,
    coalesce(s.paused_seconds, p.paused_seconds) AS paused_seconds,
    p.runtime_seconds,
    coalesce(s.percent_watched, p.percent_watched) AS percent_watched,
    coalesce(s.watched, p.watched) AS watched,
    p.stream_type, p.platform, p.player
FROM plays p LEFT JOIN summed s USING (watch_id)
WHERE s.id IS NULL OR s.id = p.id;

-- Tautulli takes an item whose length it does not know as watched.
CREATE TABLE recently_watched AS
WITH finished AS (
    SELECT id
    FROM newest_plays
    WHERE media_type IN ('movie', 'episode')
        AND coalesce(view_offset, 0.1) / coalesce(nullif(media_duration_ms, 0), 1) * 100 >= 85
    ORDER BY started_at DESC, id
    LIMIT 1000
),
found AS (
    SELECT * FROM plays SEMI JOIN finished USING (id)
),
last_rows AS (
    SELECT arg_max(id, coalesce(row_id, 0)) AS id
    FROM plays SEMI JOIN found USING (watch_id)
    GROUP BY watch_id
)
SELECT id, watch_id, server_id, person, user_id, user_name, started_at, media, full_title, year,
    library, item_id, player, row_id, id IN (SELECT id FROM last_rows) AS ends_watch
FROM found
ORDER BY started_at_utc DESC, row_id DESC;
