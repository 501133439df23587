-- Newer content of plays, names of users and libraries, and the server in every key.

-- A later migration creates them again: DuckDB cannot do both in one transaction.
DROP INDEX idx_playback_correlation_key;
DROP INDEX idx_playback_dedup;

ALTER TABLE playback_events ADD COLUMN group_started_at TIMESTAMP;
ALTER TABLE playback_events ADD COLUMN content_hash UBIGINT;

-- Newer content of stored plays. The first version stays in `playback_events`.
CREATE TABLE playback_revisions AS
SELECT id, 0::INTEGER AS revision, id AS event_id, * EXCLUDE (id, created_at),
    created_at AS revised_at
FROM playback_events LIMIT 0;

-- Event ids under which a stored play came again, with other row numbers.
CREATE TABLE event_aliases (
    event_id UUID NOT NULL,
    play_id UUID NOT NULL,
    source VARCHAR NOT NULL,
    server_id VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL
);

-- Every server id in the tables, and the id that it counts as now.
CREATE TABLE servers (
    server_id VARCHAR PRIMARY KEY,
    current_id VARCHAR NOT NULL,
    newest_started_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL
);
INSERT INTO servers
SELECT server_id, server_id, max(started_at) FILTER (source = 'tautulli-import'), min(created_at)
FROM playback_events GROUP BY server_id;

-- The newest names of people and libraries. The names in the plays are those of their time.
CREATE TABLE users (
    server_id VARCHAR NOT NULL,
    user_id INTEGER NOT NULL,
    username VARCHAR,
    friendly_name VARCHAR,
    PRIMARY KEY (server_id, user_id)
);
INSERT INTO users
SELECT server_id, user_id, arg_max(username, started_at),
    arg_max(friendly_name, started_at)
FROM playback_events WHERE source = 'tautulli-import' GROUP BY server_id, user_id;

CREATE TABLE libraries (
    server_id VARCHAR NOT NULL,
    section_id BIGINT NOT NULL,
    name VARCHAR,
    type VARCHAR,
    active BOOLEAN,
    PRIMARY KEY (server_id, section_id)
);
INSERT INTO libraries
SELECT server_id, section_id, arg_max(library_name, started_at), NULL, NULL
FROM playback_events
WHERE source = 'tautulli-import' AND section_id IS NOT NULL AND library_name IS NOT NULL
GROUP BY server_id, section_id;

-- DuckDB cannot change a CHECK, so the table is written again: see `upgrade.py`.
CREATE TABLE new_audit_log (
    id UUID PRIMARY KEY,
    discarded_event_id UUID NOT NULL,
    discarded_payload JSON NOT NULL USING COMPRESSION zstd,
    discarded_source VARCHAR,
    discarded_server_id VARCHAR,
    discarded_subject VARCHAR NOT NULL,
    matched_event_id UUID NOT NULL,
    matched_source VARCHAR,
    matched_server_id VARCHAR,
    dedupe_layer VARCHAR NOT NULL CHECK (dedupe_layer IN ('cache', 'database')),
    dedupe_reason VARCHAR NOT NULL CHECK (
        dedupe_reason IN (
            'event_id', 'session_key', 'correlation_key', 'cross_source_key',
            'rating_key_user_started', 'guid_user_started'
        )
    ),
    content_differs BOOLEAN,
    content_hash UBIGINT,
    status VARCHAR NOT NULL DEFAULT 'auto_dedupe' CHECK (
        status IN ('auto_dedupe', 'user_confirmed', 'user_restored')
    ),
    source_row_id BIGINT,
    import_id VARCHAR,
    stream_id VARCHAR NOT NULL,
    stream_sequence BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    resolved_at TIMESTAMP
);

ALTER TABLE import_ledger ADD COLUMN server_id VARCHAR;
ALTER TABLE import_ledger ADD COLUMN revised BIGINT DEFAULT 0;

-- How many rows of each step of the upgrade are done.
CREATE TABLE upgrade_progress (
    step VARCHAR NOT NULL,
    rows_done BIGINT NOT NULL
);
