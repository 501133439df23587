-- What every table is built from: the newest content of each play, under the current id of its
-- server. Times are UTC.
CREATE TEMP TABLE newest_revisions AS
SELECT id, max(revision) AS revision FROM warehouse.playback_revisions GROUP BY id;

CREATE TEMP VIEW newest_plays AS
WITH contents AS (
    SELECT * EXCLUDE (created_at)
    FROM warehouse.playback_events ANTI JOIN newest_revisions USING (id)
    UNION ALL BY NAME
    SELECT * EXCLUDE (revision, event_id, revised_at)
    FROM warehouse.playback_revisions SEMI JOIN newest_revisions USING (id, revision)
)
SELECT c.* REPLACE (coalesce(s.current_id, c.server_id) AS server_id)
FROM contents c LEFT JOIN warehouse.servers s USING (server_id);

-- Local time without a zone, from UTC without a zone.
CREATE TEMP MACRO local(moment) AS
    timezone(getvariable('timezone'), timezone('UTC', moment));
