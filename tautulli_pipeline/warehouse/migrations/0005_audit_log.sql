-- The audit log with its new reason; `upgrade.py` has copied its rows, and turned those with newer
-- content into revisions.
DROP TABLE dedupe_audit_log;
ALTER TABLE new_audit_log RENAME TO dedupe_audit_log;
DROP TABLE upgrade_progress;

INSERT INTO event_aliases
SELECT discarded_event_id, arg_max(matched_event_id, created_at), any_value(discarded_source),
    arg_max(discarded_server_id, created_at), any_value(started_at)
FROM (
    SELECT *, date_trunc('second', TRY_CAST(discarded_payload ->> '$.started_at' AS TIMESTAMP))
        AS started_at
    FROM dedupe_audit_log
    WHERE discarded_source = 'tautulli-import' AND discarded_event_id <> matched_event_id
        AND status <> 'user_restored'
)
WHERE started_at IS NOT NULL AND discarded_server_id IS NOT NULL GROUP BY discarded_event_id;

-- Pairs of plays that are likely the same, as before, and also of two server ids: a live producer
-- often knows the server by another id than the import. Plays of two servers that are meant to be
-- two never start so close together for one person.
CREATE OR REPLACE VIEW near_matches AS
WITH plays AS (
    SELECT p.*, coalesce(s.current_id, p.server_id) AS server
    FROM playback_events p LEFT JOIN servers s USING (server_id)
),
items AS (
    SELECT id, server, user_id, started_at, epoch(started_at)::BIGINT // 600 AS slot,
        unnest([
            CASE WHEN rating_key IS NOT NULL THEN hash(user_id, server, rating_key) END,
            hash(user_id, 2, lower(title), lower(grandparent_title))
        ]) AS item
    FROM plays
    WHERE restored_at IS NULL
),
pairs AS (
    SELECT DISTINCT a.id AS first_event_id, b.id AS second_event_id
    FROM (SELECT *, unnest([slot, slot + 1]) AS near_slot FROM items) a
    JOIN items b ON b.item = a.item AND b.slot = a.near_slot
        AND (a.server = b.server OR a.user_id > 1)
    WHERE (b.started_at, b.id) > (a.started_at, a.id)
        AND b.started_at - a.started_at <= INTERVAL 10 MINUTES
),
spans AS (
    SELECT id, server_id, server, user_id, username, friendly_name, source, machine_id,
        rating_key, title, grandparent_title, started_at,
        nullif(media_duration, 0) AS runtime_seconds,
        CASE WHEN stopped_at >= started_at THEN stopped_at
            ELSE started_at + to_seconds(coalesce(nullif(media_duration, 0), 300))
        END AS ended_at
    FROM plays
),
timed AS (
    SELECT a.id AS first_event_id, b.id AS second_event_id, a.server_id,
        b.server_id AS second_server_id, a.server = b.server AS same_server, a.user_id,
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
    overlap_seconds, same_rating_key, second_server_id, same_server
FROM timed
-- A tenth of the runtime, but at least 30 seconds and at most 10 minutes.
WHERE seconds_apart <= least(greatest(runtime_seconds // 10, 30), 600)
    AND overlap_seconds >= 0 AND overlap_seconds * 2 >= shorter_seconds;
