CREATE TABLE about AS
SELECT local(getvariable('built_at')::TIMESTAMP) AS built_at,
    getvariable('timezone') AS timezone, count(*) AS plays
FROM plays;
