-- Unique on one server: plays of two servers may share this key. Each index has a migration of its
-- own, because creating it takes much memory.
CREATE UNIQUE INDEX idx_playback_correlation_key ON playback_events (
    (CASE WHEN restored_at IS NULL THEN md5_number(server_id || '|' || correlation_key) END)
);
