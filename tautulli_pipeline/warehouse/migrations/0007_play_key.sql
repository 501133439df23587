-- Unique on one server, too. The key is (server_id, rating_key, user_id, started_at). Rows where one
-- of them is NULL have no key.
CREATE UNIQUE INDEX idx_playback_dedup ON playback_events (
    (CASE WHEN restored_at IS NULL THEN
        md5_number(concat_ws('|', server_id, user_id, epoch_us(started_at)) || '|' || rating_key)
    END)
);
