CREATE TABLE plays_by_day AS
SELECT "day", media, count(*) AS plays, count(DISTINCT watch_id) AS watches,
    sum(seconds)::BIGINT AS seconds
FROM plays GROUP BY ALL ORDER BY ALL;

CREATE TABLE plays_by_weekday AS
SELECT weekday, media, count(*) AS plays, count(DISTINCT watch_id) AS watches,
    sum(seconds)::BIGINT AS seconds
FROM plays GROUP BY ALL ORDER BY ALL;

CREATE TABLE plays_by_hour AS
SELECT "hour", media, count(*) AS plays, count(DISTINCT watch_id) AS watches,
    sum(seconds)::BIGINT AS seconds
FROM plays GROUP BY ALL ORDER BY ALL;

CREATE TABLE plays_by_month AS
SELECT date_trunc('month', "day")::DATE AS "month", media, count(*) AS plays,
    count(DISTINCT watch_id) AS watches, sum(seconds)::BIGINT AS seconds
FROM plays GROUP BY ALL ORDER BY ALL;

CREATE TABLE plays_by_platform AS
SELECT platform, media, count(*) AS plays, count(DISTINCT watch_id) AS watches,
    sum(seconds)::BIGINT AS seconds
FROM plays GROUP BY ALL ORDER BY ALL;

CREATE TABLE plays_by_user AS
SELECT server_id, user_id, user_name, media, count(*) AS plays,
    count(DISTINCT watch_id) AS watches, sum(seconds)::BIGINT AS seconds
FROM plays GROUP BY ALL ORDER BY ALL;
