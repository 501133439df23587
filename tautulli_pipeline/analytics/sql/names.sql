-- Tautulli's names of resolutions and platforms.
CREATE TEMP MACRO full_resolution(full_name, resolution) AS
    coalesce(full_name, CASE
        WHEN lower(resolution) = 'sd' THEN 'SD'
        WHEN resolution = '4k' THEN '4k'
        ELSE replace(resolution, 'p', '') || 'p' END);

CREATE TEMP MACRO platform_name(platform) AS
    CASE platform WHEN 'Konvergo' THEN 'Plex Media Player' WHEN 'Mystery 3' THEN 'Playstation 3'
        WHEN 'Mystery 4' THEN 'Playstation 4' WHEN 'Mystery 5' THEN 'Xbox 360'
        WHEN 'WebMAF' THEN 'Playstation 4' WHEN 'windows' THEN 'Windows'
        WHEN 'osx' THEN 'macOS' WHEN 'macos' THEN 'macOS' ELSE platform END;
