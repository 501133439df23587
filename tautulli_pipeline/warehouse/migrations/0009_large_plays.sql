-- Remember that there are large plays, whose row groups must stay small.
ALTER TABLE warehouse_identity ADD COLUMN has_large_plays BOOLEAN DEFAULT false;

COMMENT ON COLUMN warehouse_identity.has_large_plays IS
    'Whether a play of more than 64 KiB was stored: row groups with such plays stay small.';
