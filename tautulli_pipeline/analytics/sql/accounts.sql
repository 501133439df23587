-- One row per user of a server: the newest name, and the person that the account belongs to.
-- Ids of Plex accounts are the same on every server; 0 and 1 are somebody else on each.
CREATE TEMP TABLE accounts AS
WITH played AS (
    SELECT server_id, user_id, arg_max(friendly_name, started_at) AS friendly_name,
        arg_max(username, started_at) AS username, max(started_at) AS seen_at
    FROM newest_plays
    GROUP BY ALL
),
known AS (
    SELECT coalesce(current_id, server_id) AS server_id, user_id,
        arg_max(friendly_name, coalesce(server_id = current_id, true)) AS friendly_name,
        arg_max(username, coalesce(server_id = current_id, true)) AS username
    FROM warehouse.users LEFT JOIN warehouse.servers USING (server_id)
    GROUP BY ALL
),
named AS (
    SELECT server_id, user_id, seen_at,
        coalesce(k.username, p.username, 'user ' || user_id) AS username,
        coalesce(
            CASE WHEN trim(k.friendly_name) <> '' THEN k.friendly_name END, k.username,
            p.friendly_name, p.username, 'user ' || user_id
        ) AS user_name,
        CASE WHEN user_id > 1 THEN '' ELSE server_id END AS scope
    FROM played p LEFT JOIN known k USING (server_id, user_id)
),
owners AS (
    SELECT user_id, scope, trim(arg_max(user_name, seen_at)) AS owner,
        arg_max(username, seen_at) AS username
    FROM named
    GROUP BY ALL
),
-- If two people have the same name, their user names distinguish them, or else their ids.
people AS (
    SELECT user_id, scope,
        CASE WHEN count(*) OVER (PARTITION BY owner) = 1 THEN owner
            WHEN count(*) OVER (PARTITION BY owner, username) = 1
                THEN owner || ' (' || username || ')'
            ELSE owner || ' (' || concat_ws('/', nullif(scope, ''), user_id) || ')'
        END AS person
    FROM owners
)
SELECT server_id, user_id, username, user_name,
    coalesce(named_people.person, people.person) AS person
FROM named
JOIN people USING (user_id, scope)
LEFT JOIN named_people USING (server_id, user_id);
