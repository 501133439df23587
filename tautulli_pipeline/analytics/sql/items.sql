-- What identifies an item: its guid if that means the same on every server. Parameters of the
-- address, such as the language, do not count. `build.py` has the macro `shared_guid`.
CREATE TEMP MACRO global_guid(guid, live) AS split_part(shared_guid(guid, live), '?', 1);

-- Plex replaced the guids of its old agents by new ones. Where an item of a server was played
-- under both, the old guid means the new one.
CREATE TEMP TABLE renamed_guids AS
WITH played AS (
    SELECT DISTINCT server_id, rating_key, media_type, full_title, global_guid(guid, live) AS guid
    FROM newest_plays
    WHERE rating_key IS NOT NULL
),
pairs AS (
    SELECT list(guid) FILTER (starts_with(guid, 'com.')) AS old_guids,
        max(guid) FILTER (starts_with(guid, 'plex:')) AS new_guid
    FROM played
    GROUP BY server_id, rating_key, media_type, full_title
    HAVING count(DISTINCT guid) > 1
)
SELECT guid, max(new_guid) AS new_guid
FROM (SELECT unnest(old_guids) AS guid, new_guid FROM pairs WHERE new_guid IS NOT NULL)
GROUP BY ALL;

-- Other items are known to one server only. A `local` guid holds nothing but the rating key.
CREATE TEMP MACRO own_item(server_id, guid, rating_key, full_title) AS
    server_id || '/' || CASE
        WHEN guid IS NOT NULL AND NOT starts_with(guid, 'local:') THEN guid
        ELSE concat_ws('/', rating_key, full_title) END;

CREATE TEMP VIEW identified_plays AS
SELECT p.*,
    coalesce(
        new_guid, global_guid(p.guid, live),
        own_item(server_id, p.guid, rating_key, coalesce(full_title, title))
    ) AS item_id
FROM newest_plays p
LEFT JOIN renamed_guids r ON r.guid = global_guid(p.guid, p.live);

-- The start of the first play of each group, for plays that do not know it: those of earlier
-- versions of this pipeline. Numbers of groups are good as long as nobody renumbers them.
CREATE TEMP TABLE numbered_groups AS
SELECT server_id, user_id, item_id, reference_id, min(started_at) AS first_started_at
FROM identified_plays
WHERE group_started_at IS NULL AND reference_id <> 0
GROUP BY ALL
HAVING count(*) > 1;

-- Databases from before Tautulli numbered groups, and those whose upgrade failed, have no numbers.
-- Its upgrade makes a group of the plays of an item that follow each other in the history of a user.
CREATE TEMP TABLE unnumbered_groups AS
WITH told AS NOT MATERIALIZED (
    SELECT id, server_id, user_id, source_row_id, rating_key, started_at,
        group_started_at IS NULL AND coalesce(reference_id, 0) = 0 AS is_unnumbered
    FROM newest_plays
    WHERE source = 'tautulli-import'
),
concerned AS (
    SELECT DISTINCT server_id, user_id FROM told WHERE is_unnumbered
),
begun AS (
    SELECT *, CASE
            WHEN rating_key IS DISTINCT FROM lag(rating_key) OVER history
                OR NOT coalesce(lag(is_unnumbered) OVER history, false)
            THEN started_at
        END AS run_started_at
    FROM told SEMI JOIN concerned USING (server_id, user_id)
    WINDOW history AS (PARTITION BY server_id, user_id ORDER BY source_row_id)
)
SELECT id, last_value(run_started_at IGNORE NULLS) OVER (
        PARTITION BY server_id, user_id ORDER BY source_row_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS run_started_at
FROM begun
QUALIFY is_unnumbered;
