CREATE TABLE top_movies AS
SELECT full_title AS title, year, count(*) AS plays, count(DISTINCT watch_id) AS watches,
    sum(seconds)::BIGINT AS seconds, count(DISTINCT person) AS users,
    max(started_at) AS last_played_at
FROM plays WHERE media_type = 'movie'
GROUP BY ALL ORDER BY plays DESC, last_played_at DESC, title, year;

CREATE TABLE top_shows AS
SELECT "show" AS title, count(*) AS plays, count(DISTINCT watch_id) AS watches,
    sum(seconds)::BIGINT AS seconds, count(DISTINCT person) AS users,
    max(started_at) AS last_played_at
FROM plays WHERE media_type = 'episode'
GROUP BY ALL ORDER BY plays DESC, last_played_at DESC, title;

CREATE TABLE top_artists AS
SELECT artist AS title, count(*) AS plays, count(DISTINCT watch_id) AS watches,
    sum(seconds)::BIGINT AS seconds, count(DISTINCT person) AS users,
    max(started_at) AS last_played_at
FROM plays WHERE media_type = 'track'
GROUP BY ALL ORDER BY plays DESC, last_played_at DESC, title;

CREATE TABLE top_users AS
SELECT server_id, user_id, user_name, username, count(*) AS plays,
    count(DISTINCT watch_id) AS watches, sum(seconds)::BIGINT AS seconds,
    count(DISTINCT person) AS users, max(started_at) AS last_played_at
FROM plays JOIN (SELECT server_id, user_id, username FROM accounts) USING (server_id, user_id)
GROUP BY ALL ORDER BY plays DESC, last_played_at DESC, server_id, user_id;

CREATE TABLE top_platforms AS
SELECT platform, count(*) AS plays, count(DISTINCT watch_id) AS watches,
    sum(seconds)::BIGINT AS seconds, count(DISTINCT person) AS users,
    max(started_at) AS last_played_at
FROM plays
GROUP BY ALL ORDER BY plays DESC, last_played_at DESC, platform;

CREATE TABLE top_libraries AS
SELECT server_id, section_id, max(library) AS library, count(*) AS plays,
    count(DISTINCT watch_id) AS watches, sum(seconds)::BIGINT AS seconds,
    count(DISTINCT person) AS users, max(started_at) AS last_played_at
FROM plays
GROUP BY server_id, section_id ORDER BY plays DESC, last_played_at DESC, server_id, section_id;
