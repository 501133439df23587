CREATE TABLE concurrency AS
SELECT stream_type, peak, local(started_at) AS started_at, local(stopped_at) AS stopped_at
FROM overall_peaks ORDER BY ALL;
