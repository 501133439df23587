CREATE TABLE streams_by_day AS
WITH counted AS (
    SELECT "day", coalesce(stream_type, 'All') AS stream_type, count(*) AS plays,
        sum(seconds)::BIGINT AS seconds
    FROM plays
    WHERE stream_type IS NOT NULL
    GROUP BY GROUPING SETS (("day", stream_type), ("day"))
)
SELECT "day", stream_type, plays, seconds, coalesce(peak, 0) AS peak_concurrent
FROM counted LEFT JOIN daily_peaks USING ("day", stream_type)
ORDER BY ALL;

CREATE TABLE streams_by_platform AS
SELECT platform, stream_type, count(*) AS plays, sum(seconds)::BIGINT AS seconds
FROM plays WHERE stream_type IS NOT NULL GROUP BY ALL ORDER BY ALL;

CREATE TABLE streams_by_user AS
SELECT server_id, user_id, user_name, stream_type, count(*) AS plays,
    sum(seconds)::BIGINT AS seconds
FROM plays WHERE stream_type IS NOT NULL GROUP BY ALL ORDER BY ALL;

CREATE TABLE streams_by_source_resolution AS
SELECT source_resolution AS resolution, stream_type, count(*) AS plays,
    sum(seconds)::BIGINT AS seconds
FROM plays
WHERE stream_type IS NOT NULL AND media_type IN ('movie', 'episode')
GROUP BY ALL ORDER BY ALL;

CREATE TABLE streams_by_stream_resolution AS
SELECT stream_resolution AS resolution, stream_type, count(*) AS plays,
    sum(seconds)::BIGINT AS seconds
FROM plays
WHERE stream_type IS NOT NULL AND media_type IN ('movie', 'episode')
GROUP BY ALL ORDER BY ALL;
