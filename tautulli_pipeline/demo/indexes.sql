-- The most used indexes of Tautulli v2.17.2, created after the rows are inserted.

CREATE INDEX idx_session_history_rating_key ON session_history (rating_key);
CREATE INDEX idx_session_history_user_id ON session_history (user_id);
CREATE INDEX idx_session_history_reference_id ON session_history (reference_id);
CREATE INDEX idx_session_history_metadata_rating_key ON session_history_metadata (rating_key);
