-- The newest name of each library section.
CREATE TEMP TABLE libraries AS
WITH known AS (
    SELECT coalesce(current_id, server_id) AS server_id, section_id,
        arg_max(name, coalesce(server_id = current_id, true)) AS library
    FROM warehouse.libraries LEFT JOIN warehouse.servers USING (server_id)
    GROUP BY ALL
),
played AS (
    SELECT server_id, section_id, arg_max(library_name, started_at) AS library
    FROM newest_plays
    WHERE section_id IS NOT NULL
    GROUP BY ALL
)
SELECT server_id, section_id, coalesce(k.library, p.library) AS library
FROM played p LEFT JOIN known k USING (server_id, section_id);
