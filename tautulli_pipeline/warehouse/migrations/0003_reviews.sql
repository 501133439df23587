-- Views for people to review. They remove nothing and cost the import nothing.

-- Pairs of plays that are likely the same, reported with different times by two producers or
-- twice by one: same user and item, starts close together relative to the runtime, overlapping.
-- A rewatch starts after the first play has ended, so it does not match. Neither do plays of
-- one user on two players.
CREATE VIEW near_matches AS
WITH items AS (
    SELECT id, started_at, epoch(started_at)::BIGINT // 600 AS slot,
        unnest([
            CASE WHEN rating_key IS NOT NULL THEN hash(server_id, user_id, 1, rating_key) END,
            hash(server_id, user_id, 2, lower(title), lower(grandparent_title))
        ]) AS item
    FROM playback_events
    WHERE restored_at IS NULL
),
pairs AS (
    SELECT DISTINCT a.id AS first_event_id, b.id AS second_event_id
    FROM (SELECT *, unnest([slot, slot + 1]) AS near_slot FROM items) a
    JOIN items b ON b.item = a.item AND b.slot = a.near_slot
    WHERE (b.started_at, b.id) > (a.started_at, a.id)
        AND b.started_at - a.started_at <= INTERVAL 10 MINUTES
),
spans AS (
    SELECT id, server_id, user_id, username, friendly_name, source, machine_id, rating_key,
        title, grandparent_title, started_at, nullif(media_duration, 0) AS runtime_seconds,
        CASE WHEN stopped_at >= started_at THEN stopped_at
            ELSE started_at + to_seconds(coalesce(nullif(media_duration, 0), 300))
        END AS ended_at
    FROM playback_events
),
timed AS (
    SELECT a.id AS first_event_id, b.id AS second_event_id, a.server_id, a.user_id,
        coalesce(a.friendly_name, a.username, b.friendly_name, b.username) AS "user",
        a.title, a.grandparent_title, a.source AS first_source, b.source AS second_source,
        a.started_at AS first_started_at, b.started_at AS second_started_at,
        epoch(b.started_at - a.started_at)::BIGINT AS seconds_apart,
        epoch(least(a.ended_at, b.ended_at) - b.started_at)::BIGINT AS overlap_seconds,
        epoch(least(a.ended_at - a.started_at, b.ended_at - b.started_at))::BIGINT
            AS shorter_seconds,
        coalesce(greatest(a.runtime_seconds, b.runtime_seconds), 3000) AS runtime_seconds,
        a.rating_key IS NOT DISTINCT FROM b.rating_key AS same_rating_key
    FROM pairs
    JOIN spans a ON a.id = pairs.first_event_id
    JOIN spans b ON b.id = pairs.second_event_id
    WHERE NOT coalesce(a.source = b.source AND a.machine_id <> b.machine_id, false)
)
SELECT first_event_id, second_event_id, server_id, user_id, "user", title, grandparent_title,
    first_source, second_source, first_started_at, second_started_at, seconds_apart,
    overlap_seconds, same_rating_key
FROM timed
-- A tenth of the runtime, but at least 30 seconds and at most 10 minutes.
WHERE seconds_apart <= least(greatest(runtime_seconds // 10, 30), 600)
    AND overlap_seconds >= 0 AND overlap_seconds * 2 >= shorter_seconds;

-- Plays with impossible figures, each with flags for what is wrong.
CREATE VIEW suspicious_plays AS
WITH neighbours AS (
    SELECT id, least(
            started_at - lag(started_at) OVER same, lead(started_at) OVER same - started_at
        ) <= INTERVAL 10 SECONDS AS repeated
    FROM playback_events
    WHERE restored_at IS NULL
    WINDOW same AS (
        PARTITION BY hash(server_id, source, user_id, coalesce(rating_key, title), machine_id)
        ORDER BY started_at, id
    )
),
flagged AS (
    SELECT id, list_concat(
            CASE WHEN stopped_at < started_at THEN ['stop_before_start'] ELSE [] END,
            CASE WHEN media_duration > 0 AND coalesce(live, 0) <> 1
                    AND play_duration > media_duration + 60
                THEN ['duration_beyond_runtime'] ELSE [] END,
            CASE WHEN paused_counter > epoch(stopped_at - started_at) AND stopped_at >= started_at
                THEN ['pause_beyond_duration'] ELSE [] END,
            CASE WHEN repeated THEN ['repeated_within_seconds'] ELSE [] END
        ) AS flags
    FROM playback_events LEFT JOIN neighbours USING (id)
)
SELECT id AS event_id, flags, source, source_row_id, server_id, user_id,
    coalesce(friendly_name, username) AS "user", title, grandparent_title, started_at,
    stopped_at, play_duration, paused_counter, media_duration
FROM flagged JOIN playback_events USING (id)
WHERE len(flags) > 0;
