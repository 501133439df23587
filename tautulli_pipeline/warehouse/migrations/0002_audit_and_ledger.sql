-- The outcome of everything that did not become a row, and the count of each outcome.
CREATE TABLE dedupe_audit_log (
    id UUID PRIMARY KEY,
    discarded_event_id UUID NOT NULL,
    discarded_payload JSON NOT NULL USING COMPRESSION zstd,
    discarded_source VARCHAR,
    discarded_subject VARCHAR NOT NULL,
    matched_event_id UUID NOT NULL,
    matched_source VARCHAR,
    dedupe_layer VARCHAR NOT NULL CHECK (dedupe_layer IN ('cache', 'database')),
    dedupe_reason VARCHAR NOT NULL CHECK (
        dedupe_reason IN (
            'event_id', 'session_key', 'correlation_key', 'cross_source_key',
            'rating_key_user_started'
        )
    ),
    content_differs BOOLEAN,
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

CREATE TABLE dead_letters (
    id UUID PRIMARY KEY,
    reason VARCHAR NOT NULL,
    origin VARCHAR NOT NULL,
    record JSON NOT NULL,
    event_id VARCHAR,
    server_id VARCHAR,
    source_row_id BIGINT,
    import_id VARCHAR,
    stream_id VARCHAR,
    stream_sequence BIGINT,
    created_at TIMESTAMP NOT NULL,
    replayed_at TIMESTAMP,
    closed_at TIMESTAMP,
    closed_by VARCHAR CHECK (closed_by IN ('import', 'replay', 'superseded')),
    closed_event_id UUID
);

CREATE TABLE import_ledger (
    import_id VARCHAR NOT NULL,
    partition_key VARCHAR NOT NULL,
    total_records BIGINT NOT NULL,
    processed BIGINT NOT NULL,
    published BIGINT NOT NULL,
    imported BIGINT NOT NULL,
    duplicates_stream BIGINT NOT NULL,
    duplicates_cache BIGINT NOT NULL,
    duplicates_database BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    published_at TIMESTAMP NOT NULL,
    settled_at TIMESTAMP NOT NULL,
    PRIMARY KEY (import_id, partition_key)
);

CREATE TABLE stream_positions (
    stream_id VARCHAR PRIMARY KEY,
    last_sequence BIGINT NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

CREATE TABLE warehouse_identity (
    warehouse_id UUID NOT NULL,
    created_at TIMESTAMP NOT NULL
);

INSERT INTO warehouse_identity VALUES (uuid(), epoch_ms(epoch_ms(now())));
