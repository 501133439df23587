-- Remember large plays, whose row groups must stay small, and count rows of the audit log.
ALTER TABLE warehouse_identity ADD COLUMN has_large_plays BOOLEAN DEFAULT false;
ALTER TABLE import_ledger ADD COLUMN logged BIGINT DEFAULT 0;

COMMENT ON COLUMN warehouse_identity.has_large_plays IS
    'Whether a play of more than 64 KiB was stored: row groups with such plays stay small.';
COMMENT ON COLUMN import_ledger.logged IS
    'Duplicates among them with a row in dedupe_audit_log; repeats have none.';
