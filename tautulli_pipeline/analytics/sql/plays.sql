-- A cell may hold any number. The sum of a million plays must fit into 64 bits all the same.
CREATE TEMP MACRO bounded(number) AS
    CASE WHEN number IS NOT NULL
        THEN greatest(least(number, 1_000_000_000_000), -1_000_000_000_000)::BIGINT END;

CREATE TABLE plays AS
WITH bounded_plays AS (
    SELECT * REPLACE (
        bounded(play_duration) AS play_duration, bounded(paused_counter) AS paused_counter,
        bounded(media_duration) AS media_duration, bounded(bandwidth) AS bandwidth,
        bounded(bitrate) AS bitrate, bounded(stream_bitrate) AS stream_bitrate
    )
    FROM identified_plays
),
joined AS (
    SELECT p.*, user_name, person, coalesce(l.library, library_name) AS library,
        coalesce(group_started_at, first_started_at, run_started_at, started_at)
            AS watch_started_at,
        local(started_at) AS local_start,
        CASE WHEN stopped_at IS NULL THEN 0
            ELSE coalesce(play_duration,
                epoch(stopped_at - started_at)::BIGINT - coalesce(paused_counter, 0))
        END AS played_seconds,
        nullif(media_duration, 0) AS runtime
    FROM bounded_plays p
    JOIN accounts USING (server_id, user_id)
    LEFT JOIN libraries l USING (server_id, section_id)
    LEFT JOIN numbered_groups USING (server_id, user_id, item_id, reference_id)
    LEFT JOIN unnumbered_groups USING (id)
)
SELECT id,
    md5(concat_ws('|', server_id, user_id, item_id, epoch_us(watch_started_at)))::UUID AS watch_id,
    server_id, person, user_id, user_name,
    local_start AS started_at,
    local(stopped_at) AS stopped_at,
    local_start::DATE AS "day",
    hour(local_start)::TINYINT AS "hour",
    dayofweek(local_start)::TINYINT AS weekday,
    started_at AS started_at_utc,
    stopped_at AS stopped_at_utc,
    CASE WHEN live = 1 THEN 'Live TV'
        ELSE CASE media_type WHEN 'episode' THEN 'TV' WHEN 'movie' THEN 'Movies'
            WHEN 'track' THEN 'Music' ELSE 'Other' END
    END AS media,
    media_type,
    title,
    coalesce(full_title, title) AS full_title,
    CASE WHEN media_type = 'episode' THEN grandparent_title END AS "show",
    CASE WHEN media_type = 'episode' THEN parent_media_index END AS season,
    CASE WHEN media_type = 'episode' THEN media_index END AS episode,
    CASE WHEN media_type = 'track' THEN coalesce(original_title, grandparent_title) END AS artist,
    year, genres, section_id, library, item_id,
    CASE WHEN media_type = 'episode' AND coalesce(live, 0) <> 1
        THEN lower(trim(grandparent_title)) END AS show_id,
    played_seconds AS seconds,
    greatest(0, least(played_seconds, runtime)) AS watched_seconds,
    greatest(0, coalesce(paused_counter, 0)) AS paused_seconds,
    runtime AS runtime_seconds,
    CASE WHEN live = 1 OR runtime IS NOT NULL OR source <> 'tautulli-import'
        THEN least(greatest(percent_complete, 0), 100)::UTINYINT END AS percent_watched,
    coalesce(watched_status >= 1, percent_complete BETWEEN 85 AND 100, false) AS watched,
    CASE transcode_decision WHEN 'direct play' THEN 'Direct Play' WHEN 'copy' THEN 'Direct Stream'
        WHEN 'transcode' THEN 'Transcode' END AS stream_type,
    coalesce('transcode' IN (video_decision, stream_video_decision), false) AS video_changed,
    coalesce('transcode' IN (audio_decision, stream_audio_decision), false) AS audio_changed,
    coalesce(stream_container_decision = 'transcode' OR container <> stream_container, false)
        AS container_changed,
    coalesce(coalesce(stream_subtitle_decision, subtitle_decision) IN ('transcode', 'burn'), false)
        AS subtitle_changed,
    full_resolution(video_full_resolution, video_resolution) AS source_resolution,
    coalesce(
        full_resolution(stream_video_full_resolution, stream_video_resolution),
        CASE WHEN video_decision = 'transcode' THEN CASE
            WHEN transcode_height <= 360 THEN 'SD'
            WHEN transcode_height <= 480 THEN '480'
            WHEN transcode_height <= 576 THEN '576'
            WHEN transcode_height <= 720 THEN '720'
            WHEN transcode_height <= 1080 THEN '1080'
            WHEN transcode_height <= 1440 THEN 'QHD'
            WHEN transcode_height <= 2160 THEN '4k'
            ELSE 'unknown' END END,
        source_resolution
    ) AS stream_resolution,
    platform_name(platform) AS platform,
    player, product, machine_id AS device,
    location_type = 'lan' AS is_local,
    secure AS is_secure,
    relayed AS is_relayed,
    bandwidth AS bandwidth_kbps,
    bitrate AS bitrate_kbps,
    stream_bitrate AS stream_bitrate_kbps,
    source, source_row_id AS row_id
FROM joined;
