-- Remember which rows of the audit log came from a file that was not the newest one.
ALTER TABLE dedupe_audit_log ADD COLUMN from_older_file BOOLEAN;

COMMENT ON COLUMN dedupe_audit_log.from_older_file IS
    'Whether a newer file of the same server had been imported before.';
