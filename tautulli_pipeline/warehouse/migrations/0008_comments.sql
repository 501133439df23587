-- What every table, view and column means, for people who browse the file.
COMMENT ON TABLE playback_events IS
    'One row per distinct play, as it was first imported. Times are UTC.';
COMMENT ON COLUMN playback_events.id IS 'The event id: derived from session key, start and user.';
COMMENT ON COLUMN playback_events.session_key IS
    'The session key from the source, or the play''s id as text.';
COMMENT ON COLUMN playback_events.correlation_key IS
    'Source, server, user, item, machine, start and session in one key.';
COMMENT ON COLUMN playback_events.source IS
    'The producer that reported the play; `tautulli-import` for this pipeline.';
COMMENT ON COLUMN playback_events.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN playback_events."timestamp" IS 'When the play started, UTC.';
COMMENT ON COLUMN playback_events.source_row_id IS 'The play''s id in Tautulli''s history.';
COMMENT ON COLUMN playback_events.started_at IS 'When the play started, UTC.';
COMMENT ON COLUMN playback_events.stopped_at IS 'When the play stopped, UTC.';
COMMENT ON COLUMN playback_events.friendly_name IS
    'Name of the user in Tautulli, at the time of the play; users has the newest one.';
COMMENT ON COLUMN playback_events.library_name IS
    'Name of the library, at the time of the import; libraries has the newest one.';
COMMENT ON COLUMN playback_events.location_type IS '`lan` or `wan`.';
COMMENT ON COLUMN playback_events.media_duration IS 'Whole seconds.';
COMMENT ON COLUMN playback_events.percent_complete IS
    'Percentage of the item that was played, calculated like Tautulli''s API.';
COMMENT ON COLUMN playback_events.watched_status IS
    '0, 0.25, 0.5, 0.75 or 1, calculated like Tautulli''s API.';
COMMENT ON COLUMN playback_events.play_duration IS 'Seconds played, without pauses.';
COMMENT ON COLUMN playback_events.reference_id IS
    'Number of the group of the play in Tautulli: the row of its first play.';
COMMENT ON COLUMN playback_events.user_id IS 'Id of the user on the server; 0 is a local user.';
COMMENT ON COLUMN playback_events.username IS 'Name of the user in Plex, at the time of the play.';
COMMENT ON COLUMN playback_events.media_type IS 'movie, episode, track, clip.';
COMMENT ON COLUMN playback_events.title IS 'Tautulli''s session_history_metadata.title.';
COMMENT ON COLUMN playback_events.parent_title IS
    'Tautulli''s session_history_metadata.parent_title.';
COMMENT ON COLUMN playback_events.grandparent_title IS
    'Tautulli''s session_history_metadata.grandparent_title.';
COMMENT ON COLUMN playback_events.original_title IS
    'Tautulli''s session_history_metadata.original_title.';
COMMENT ON COLUMN playback_events.full_title IS 'Tautulli''s session_history_metadata.full_title.';
COMMENT ON COLUMN playback_events.rating_key IS 'Id of the item on its Plex server.';
COMMENT ON COLUMN playback_events.parent_rating_key IS
    'Tautulli''s session_history.parent_rating_key.';
COMMENT ON COLUMN playback_events.grandparent_rating_key IS
    'Tautulli''s session_history.grandparent_rating_key.';
COMMENT ON COLUMN playback_events.guid IS
    'Plex id of the item, the same on every server for most agents.';
COMMENT ON COLUMN playback_events.section_id IS 'Tautulli''s session_history.section_id.';
COMMENT ON COLUMN playback_events.live IS '1 for live TV.';
COMMENT ON COLUMN playback_events.year IS 'Year of the item.';
COMMENT ON COLUMN playback_events.media_index IS
    'Tautulli''s session_history_metadata.media_index.';
COMMENT ON COLUMN playback_events.parent_media_index IS
    'Tautulli''s session_history_metadata.parent_media_index.';
COMMENT ON COLUMN playback_events.paused_counter IS 'Seconds of pause.';
COMMENT ON COLUMN playback_events.view_offset IS
    'Position in the item at the stop, in milliseconds.';
COMMENT ON COLUMN playback_events.media_duration_ms IS 'Milliseconds, as stored by Tautulli.';
COMMENT ON COLUMN playback_events.ip_address IS 'Address of the player, as Tautulli recorded it.';
COMMENT ON COLUMN playback_events.location IS 'Tautulli''s session_history.location.';
COMMENT ON COLUMN playback_events.machine_id IS 'Tautulli''s session_history.machine_id.';
COMMENT ON COLUMN playback_events.platform IS 'Tautulli''s session_history.platform.';
COMMENT ON COLUMN playback_events.platform_version IS
    'Tautulli''s session_history.platform_version.';
COMMENT ON COLUMN playback_events.player IS 'Tautulli''s session_history.player.';
COMMENT ON COLUMN playback_events.product IS 'Tautulli''s session_history.product.';
COMMENT ON COLUMN playback_events.product_version IS 'Tautulli''s session_history.product_version.';
COMMENT ON COLUMN playback_events.profile IS 'Tautulli''s session_history.profile.';
COMMENT ON COLUMN playback_events.quality_profile IS 'Tautulli''s session_history.quality_profile.';
COMMENT ON COLUMN playback_events.transcode_decision IS 'direct play, copy or transcode.';
COMMENT ON COLUMN playback_events.secure IS 'Tautulli''s session_history.secure.';
COMMENT ON COLUMN playback_events.relayed IS 'Tautulli''s session_history.relayed.';
COMMENT ON COLUMN playback_events.audio_channels IS
    'Tautulli''s session_history_media_info.audio_channels.';
COMMENT ON COLUMN playback_events.transcode_audio_channels IS
    'Tautulli''s session_history_media_info.transcode_audio_channels.';
COMMENT ON COLUMN playback_events.stream_audio_channels IS
    'Tautulli''s session_history_media_info.stream_audio_channels.';
COMMENT ON COLUMN playback_events.bandwidth IS 'Reserved bandwidth, in kbit/s.';
COMMENT ON COLUMN playback_events.added_at IS 'Tautulli''s session_history_metadata.added_at.';
COMMENT ON COLUMN playback_events.updated_at IS 'Tautulli''s session_history_metadata.updated_at.';
COMMENT ON COLUMN playback_events.last_viewed_at IS
    'Tautulli''s session_history_metadata.last_viewed_at.';
COMMENT ON COLUMN playback_events.marker_credits_first IS
    'Tautulli''s session_history_metadata.marker_credits_first.';
COMMENT ON COLUMN playback_events.marker_credits_final IS
    'Tautulli''s session_history_metadata.marker_credits_final.';
COMMENT ON COLUMN playback_events.bitrate IS 'Bit rate of the file, in kbit/s.';
COMMENT ON COLUMN playback_events.width IS 'Tautulli''s session_history_media_info.width.';
COMMENT ON COLUMN playback_events.height IS 'Tautulli''s session_history_media_info.height.';
COMMENT ON COLUMN playback_events.video_bitrate IS
    'Tautulli''s session_history_media_info.video_bitrate.';
COMMENT ON COLUMN playback_events.video_bit_depth IS
    'Tautulli''s session_history_media_info.video_bit_depth.';
COMMENT ON COLUMN playback_events.video_width IS
    'Tautulli''s session_history_media_info.video_width.';
COMMENT ON COLUMN playback_events.video_height IS
    'Tautulli''s session_history_media_info.video_height.';
COMMENT ON COLUMN playback_events.audio_bitrate IS
    'Tautulli''s session_history_media_info.audio_bitrate.';
COMMENT ON COLUMN playback_events.subtitles IS 'Tautulli''s session_history_media_info.subtitles.';
COMMENT ON COLUMN playback_events.subtitle_forced IS
    'Tautulli''s session_history_media_info.subtitle_forced.';
COMMENT ON COLUMN playback_events.transcode_width IS
    'Tautulli''s session_history_media_info.transcode_width.';
COMMENT ON COLUMN playback_events.transcode_height IS
    'Tautulli''s session_history_media_info.transcode_height.';
COMMENT ON COLUMN playback_events.transcode_hw_requested IS
    'Tautulli''s session_history_media_info.transcode_hw_requested.';
COMMENT ON COLUMN playback_events.transcode_hw_full_pipeline IS
    'Tautulli''s session_history_media_info.transcode_hw_full_pipeline.';
COMMENT ON COLUMN playback_events.transcode_hw_decoding IS
    'Tautulli''s session_history_media_info.transcode_hw_decoding.';
COMMENT ON COLUMN playback_events.transcode_hw_encoding IS
    'Tautulli''s session_history_media_info.transcode_hw_encoding.';
COMMENT ON COLUMN playback_events.stream_bitrate IS
    'Tautulli''s session_history_media_info.stream_bitrate.';
COMMENT ON COLUMN playback_events.stream_video_bitrate IS
    'Tautulli''s session_history_media_info.stream_video_bitrate.';
COMMENT ON COLUMN playback_events.stream_video_bit_depth IS
    'Tautulli''s session_history_media_info.stream_video_bit_depth.';
COMMENT ON COLUMN playback_events.stream_video_height IS
    'Tautulli''s session_history_media_info.stream_video_height.';
COMMENT ON COLUMN playback_events.stream_video_width IS
    'Tautulli''s session_history_media_info.stream_video_width.';
COMMENT ON COLUMN playback_events.stream_audio_bitrate IS
    'Tautulli''s session_history_media_info.stream_audio_bitrate.';
COMMENT ON COLUMN playback_events.stream_subtitle_forced IS
    'Tautulli''s session_history_media_info.stream_subtitle_forced.';
COMMENT ON COLUMN playback_events.synced_version IS
    'Tautulli''s session_history_media_info.synced_version.';
COMMENT ON COLUMN playback_events.optimized_version IS
    'Tautulli''s session_history_media_info.optimized_version.';
COMMENT ON COLUMN playback_events.thumb IS 'Tautulli''s session_history_metadata.thumb.';
COMMENT ON COLUMN playback_events.parent_thumb IS
    'Tautulli''s session_history_metadata.parent_thumb.';
COMMENT ON COLUMN playback_events.grandparent_thumb IS
    'Tautulli''s session_history_metadata.grandparent_thumb.';
COMMENT ON COLUMN playback_events.art IS 'Tautulli''s session_history_metadata.art.';
COMMENT ON COLUMN playback_events.originally_available_at IS
    'Tautulli''s session_history_metadata.originally_available_at.';
COMMENT ON COLUMN playback_events.content_rating IS
    'Tautulli''s session_history_metadata.content_rating.';
COMMENT ON COLUMN playback_events.summary IS 'Tautulli''s session_history_metadata.summary.';
COMMENT ON COLUMN playback_events.tagline IS 'Tautulli''s session_history_metadata.tagline.';
COMMENT ON COLUMN playback_events.rating IS 'Tautulli''s session_history_metadata.rating.';
COMMENT ON COLUMN playback_events.directors IS 'Tautulli''s session_history_metadata.directors.';
COMMENT ON COLUMN playback_events.writers IS 'Tautulli''s session_history_metadata.writers.';
COMMENT ON COLUMN playback_events.actors IS 'Tautulli''s session_history_metadata.actors.';
COMMENT ON COLUMN playback_events.genres IS 'Tautulli''s session_history_metadata.genres.';
COMMENT ON COLUMN playback_events.studio IS 'Tautulli''s session_history_metadata.studio.';
COMMENT ON COLUMN playback_events.labels IS 'Tautulli''s session_history_metadata.labels.';
COMMENT ON COLUMN playback_events.channel_call_sign IS
    'Tautulli''s session_history_metadata.channel_call_sign.';
COMMENT ON COLUMN playback_events.channel_id IS 'Tautulli''s session_history_metadata.channel_id.';
COMMENT ON COLUMN playback_events.channel_identifier IS
    'Tautulli''s session_history_metadata.channel_identifier.';
COMMENT ON COLUMN playback_events.channel_title IS
    'Tautulli''s session_history_metadata.channel_title.';
COMMENT ON COLUMN playback_events.channel_thumb IS
    'Tautulli''s session_history_metadata.channel_thumb.';
COMMENT ON COLUMN playback_events.channel_vcn IS
    'Tautulli''s session_history_metadata.channel_vcn.';
COMMENT ON COLUMN playback_events.video_decision IS
    'Tautulli''s session_history_media_info.video_decision.';
COMMENT ON COLUMN playback_events.audio_decision IS
    'Tautulli''s session_history_media_info.audio_decision.';
COMMENT ON COLUMN playback_events.container IS 'Tautulli''s session_history_media_info.container.';
COMMENT ON COLUMN playback_events.video_codec IS
    'Tautulli''s session_history_media_info.video_codec.';
COMMENT ON COLUMN playback_events.video_codec_level IS
    'Tautulli''s session_history_media_info.video_codec_level.';
COMMENT ON COLUMN playback_events.video_resolution IS
    'Tautulli''s session_history_media_info.video_resolution.';
COMMENT ON COLUMN playback_events.video_framerate IS
    'Tautulli''s session_history_media_info.video_framerate.';
COMMENT ON COLUMN playback_events.video_scan_type IS
    'Tautulli''s session_history_media_info.video_scan_type.';
COMMENT ON COLUMN playback_events.video_full_resolution IS
    'Tautulli''s session_history_media_info.video_full_resolution.';
COMMENT ON COLUMN playback_events.video_dynamic_range IS
    'Tautulli''s session_history_media_info.video_dynamic_range.';
COMMENT ON COLUMN playback_events.aspect_ratio IS
    'Tautulli''s session_history_media_info.aspect_ratio.';
COMMENT ON COLUMN playback_events.audio_codec IS
    'Tautulli''s session_history_media_info.audio_codec.';
COMMENT ON COLUMN playback_events.audio_language IS
    'Tautulli''s session_history_media_info.audio_language.';
COMMENT ON COLUMN playback_events.audio_language_code IS
    'Tautulli''s session_history_media_info.audio_language_code.';
COMMENT ON COLUMN playback_events.subtitle_codec IS
    'Tautulli''s session_history_media_info.subtitle_codec.';
COMMENT ON COLUMN playback_events.subtitle_language IS
    'Tautulli''s session_history_media_info.subtitle_language.';
COMMENT ON COLUMN playback_events.subtitle_decision IS 'What the server did with the subtitles.';
COMMENT ON COLUMN playback_events.transcode_protocol IS
    'Tautulli''s session_history_media_info.transcode_protocol.';
COMMENT ON COLUMN playback_events.transcode_container IS
    'Tautulli''s session_history_media_info.transcode_container.';
COMMENT ON COLUMN playback_events.transcode_video_codec IS
    'Tautulli''s session_history_media_info.transcode_video_codec.';
COMMENT ON COLUMN playback_events.transcode_audio_codec IS
    'Tautulli''s session_history_media_info.transcode_audio_codec.';
COMMENT ON COLUMN playback_events.transcode_hw_decode IS
    'Tautulli''s session_history_media_info.transcode_hw_decode.';
COMMENT ON COLUMN playback_events.transcode_hw_decode_title IS
    'Tautulli''s session_history_media_info.transcode_hw_decode_title.';
COMMENT ON COLUMN playback_events.transcode_hw_encode IS
    'Tautulli''s session_history_media_info.transcode_hw_encode.';
COMMENT ON COLUMN playback_events.transcode_hw_encode_title IS
    'Tautulli''s session_history_media_info.transcode_hw_encode_title.';
COMMENT ON COLUMN playback_events.stream_container IS
    'Tautulli''s session_history_media_info.stream_container.';
COMMENT ON COLUMN playback_events.stream_container_decision IS
    'Tautulli''s session_history_media_info.stream_container_decision.';
COMMENT ON COLUMN playback_events.stream_video_decision IS
    'Tautulli''s session_history_media_info.stream_video_decision.';
COMMENT ON COLUMN playback_events.stream_video_codec IS
    'Tautulli''s session_history_media_info.stream_video_codec.';
COMMENT ON COLUMN playback_events.stream_video_codec_level IS
    'Tautulli''s session_history_media_info.stream_video_codec_level.';
COMMENT ON COLUMN playback_events.stream_video_resolution IS
    'Tautulli''s session_history_media_info.stream_video_resolution.';
COMMENT ON COLUMN playback_events.stream_video_framerate IS
    'Tautulli''s session_history_media_info.stream_video_framerate.';
COMMENT ON COLUMN playback_events.stream_video_scan_type IS
    'Tautulli''s session_history_media_info.stream_video_scan_type.';
COMMENT ON COLUMN playback_events.stream_video_full_resolution IS
    'Tautulli''s session_history_media_info.stream_video_full_resolution.';
COMMENT ON COLUMN playback_events.stream_video_dynamic_range IS
    'Tautulli''s session_history_media_info.stream_video_dynamic_range.';
COMMENT ON COLUMN playback_events.stream_audio_decision IS
    'Tautulli''s session_history_media_info.stream_audio_decision.';
COMMENT ON COLUMN playback_events.stream_audio_codec IS
    'Tautulli''s session_history_media_info.stream_audio_codec.';
COMMENT ON COLUMN playback_events.stream_audio_language IS
    'Tautulli''s session_history_media_info.stream_audio_language.';
COMMENT ON COLUMN playback_events.stream_audio_language_code IS
    'Tautulli''s session_history_media_info.stream_audio_language_code.';
COMMENT ON COLUMN playback_events.stream_subtitle_decision IS
    'Tautulli''s session_history_media_info.stream_subtitle_decision.';
COMMENT ON COLUMN playback_events.stream_subtitle_codec IS
    'Tautulli''s session_history_media_info.stream_subtitle_codec.';
COMMENT ON COLUMN playback_events.stream_subtitle_container IS
    'Tautulli''s session_history_media_info.stream_subtitle_container.';
COMMENT ON COLUMN playback_events.stream_subtitle_language IS
    'Tautulli''s session_history_media_info.stream_subtitle_language.';
COMMENT ON COLUMN playback_events.synced_version_profile IS
    'Tautulli''s session_history_media_info.synced_version_profile.';
COMMENT ON COLUMN playback_events.optimized_version_profile IS
    'Tautulli''s session_history_media_info.optimized_version_profile.';
COMMENT ON COLUMN playback_events.optimized_version_title IS
    'Tautulli''s session_history_media_info.optimized_version_title.';
COMMENT ON COLUMN playback_events.extra IS 'Values that have no column of their own, as JSON.';
COMMENT ON COLUMN playback_events.import_id IS
    'The import that added the row; empty for other producers.';
COMMENT ON COLUMN playback_events.stream_id IS 'The stream that delivered the event.';
COMMENT ON COLUMN playback_events.stream_sequence IS 'The event''s sequence number on that stream.';
COMMENT ON COLUMN playback_events.payload_hash IS
    'Hash of the payload, to detect duplicates with other content.';
COMMENT ON COLUMN playback_events.created_at IS 'When the row was stored, UTC.';
COMMENT ON COLUMN playback_events.restored_at IS
    'When the row was restored from the audit log, UTC.';
COMMENT ON COLUMN playback_events.group_started_at IS
    'When the first play of its group started, UTC; Tautulli groups plays that continue each other.';
COMMENT ON COLUMN playback_events.content_hash IS
    'Hash of the content, without names and row numbers.';
COMMENT ON TABLE playback_revisions IS
    'Newer content of plays that are in playback_events already, such as a corrected title or stop.';
COMMENT ON COLUMN playback_revisions.id IS 'Id of the play in playback_events.';
COMMENT ON COLUMN playback_revisions.revision IS
    'Number of the revision; the highest one of a play is its newest content.';
COMMENT ON COLUMN playback_revisions.event_id IS 'Event id of the message that brought it.';
COMMENT ON COLUMN playback_revisions.session_key IS
    'The session key from the source, or the play''s id as text.';
COMMENT ON COLUMN playback_revisions.correlation_key IS
    'Source, server, user, item, machine, start and session in one key.';
COMMENT ON COLUMN playback_revisions.source IS
    'The producer that reported the play; `tautulli-import` for this pipeline.';
COMMENT ON COLUMN playback_revisions.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN playback_revisions."timestamp" IS 'When the play started, UTC.';
COMMENT ON COLUMN playback_revisions.source_row_id IS 'The play''s id in Tautulli''s history.';
COMMENT ON COLUMN playback_revisions.started_at IS 'When the play started, UTC.';
COMMENT ON COLUMN playback_revisions.stopped_at IS 'When the play stopped, UTC.';
COMMENT ON COLUMN playback_revisions.friendly_name IS
    'Name of the user in Tautulli, at the time of the play; users has the newest one.';
COMMENT ON COLUMN playback_revisions.library_name IS
    'Name of the library, at the time of the import; libraries has the newest one.';
COMMENT ON COLUMN playback_revisions.location_type IS '`lan` or `wan`.';
COMMENT ON COLUMN playback_revisions.media_duration IS 'Whole seconds.';
COMMENT ON COLUMN playback_revisions.percent_complete IS
    'Percentage of the item that was played, calculated like Tautulli''s API.';
COMMENT ON COLUMN playback_revisions.watched_status IS
    '0, 0.25, 0.5, 0.75 or 1, calculated like Tautulli''s API.';
COMMENT ON COLUMN playback_revisions.play_duration IS 'Seconds played, without pauses.';
COMMENT ON COLUMN playback_revisions.reference_id IS
    'Number of the group of the play in Tautulli: the row of its first play.';
COMMENT ON COLUMN playback_revisions.user_id IS 'Id of the user on the server; 0 is a local user.';
COMMENT ON COLUMN playback_revisions.username IS
    'Name of the user in Plex, at the time of the play.';
COMMENT ON COLUMN playback_revisions.media_type IS 'movie, episode, track, clip.';
COMMENT ON COLUMN playback_revisions.title IS 'Tautulli''s session_history_metadata.title.';
COMMENT ON COLUMN playback_revisions.parent_title IS
    'Tautulli''s session_history_metadata.parent_title.';
COMMENT ON COLUMN playback_revisions.grandparent_title IS
    'Tautulli''s session_history_metadata.grandparent_title.';
COMMENT ON COLUMN playback_revisions.original_title IS
    'Tautulli''s session_history_metadata.original_title.';
COMMENT ON COLUMN playback_revisions.full_title IS
    'Tautulli''s session_history_metadata.full_title.';
COMMENT ON COLUMN playback_revisions.rating_key IS 'Id of the item on its Plex server.';
COMMENT ON COLUMN playback_revisions.parent_rating_key IS
    'Tautulli''s session_history.parent_rating_key.';
COMMENT ON COLUMN playback_revisions.grandparent_rating_key IS
    'Tautulli''s session_history.grandparent_rating_key.';
COMMENT ON COLUMN playback_revisions.guid IS
    'Plex id of the item, the same on every server for most agents.';
COMMENT ON COLUMN playback_revisions.section_id IS 'Tautulli''s session_history.section_id.';
COMMENT ON COLUMN playback_revisions.live IS '1 for live TV.';
COMMENT ON COLUMN playback_revisions.year IS 'Year of the item.';
COMMENT ON COLUMN playback_revisions.media_index IS
    'Tautulli''s session_history_metadata.media_index.';
COMMENT ON COLUMN playback_revisions.parent_media_index IS
    'Tautulli''s session_history_metadata.parent_media_index.';
COMMENT ON COLUMN playback_revisions.paused_counter IS 'Seconds of pause.';
COMMENT ON COLUMN playback_revisions.view_offset IS
    'Position in the item at the stop, in milliseconds.';
COMMENT ON COLUMN playback_revisions.media_duration_ms IS 'Milliseconds, as stored by Tautulli.';
COMMENT ON COLUMN playback_revisions.ip_address IS
    'Address of the player, as Tautulli recorded it.';
COMMENT ON COLUMN playback_revisions.location IS 'Tautulli''s session_history.location.';
COMMENT ON COLUMN playback_revisions.machine_id IS 'Tautulli''s session_history.machine_id.';
COMMENT ON COLUMN playback_revisions.platform IS 'Tautulli''s session_history.platform.';
COMMENT ON COLUMN playback_revisions.platform_version IS
    'Tautulli''s session_history.platform_version.';
COMMENT ON COLUMN playback_revisions.player IS 'Tautulli''s session_history.player.';
COMMENT ON COLUMN playback_revisions.product IS 'Tautulli''s session_history.product.';
COMMENT ON COLUMN playback_revisions.product_version IS
    'Tautulli''s session_history.product_version.';
COMMENT ON COLUMN playback_revisions.profile IS 'Tautulli''s session_history.profile.';
COMMENT ON COLUMN playback_revisions.quality_profile IS
    'Tautulli''s session_history.quality_profile.';
COMMENT ON COLUMN playback_revisions.transcode_decision IS 'direct play, copy or transcode.';
COMMENT ON COLUMN playback_revisions.secure IS 'Tautulli''s session_history.secure.';
COMMENT ON COLUMN playback_revisions.relayed IS 'Tautulli''s session_history.relayed.';
COMMENT ON COLUMN playback_revisions.audio_channels IS
    'Tautulli''s session_history_media_info.audio_channels.';
COMMENT ON COLUMN playback_revisions.transcode_audio_channels IS
    'Tautulli''s session_history_media_info.transcode_audio_channels.';
COMMENT ON COLUMN playback_revisions.stream_audio_channels IS
    'Tautulli''s session_history_media_info.stream_audio_channels.';
COMMENT ON COLUMN playback_revisions.bandwidth IS 'Reserved bandwidth, in kbit/s.';
COMMENT ON COLUMN playback_revisions.added_at IS 'Tautulli''s session_history_metadata.added_at.';
COMMENT ON COLUMN playback_revisions.updated_at IS
    'Tautulli''s session_history_metadata.updated_at.';
COMMENT ON COLUMN playback_revisions.last_viewed_at IS
    'Tautulli''s session_history_metadata.last_viewed_at.';
COMMENT ON COLUMN playback_revisions.marker_credits_first IS
    'Tautulli''s session_history_metadata.marker_credits_first.';
COMMENT ON COLUMN playback_revisions.marker_credits_final IS
    'Tautulli''s session_history_metadata.marker_credits_final.';
COMMENT ON COLUMN playback_revisions.bitrate IS 'Bit rate of the file, in kbit/s.';
COMMENT ON COLUMN playback_revisions.width IS 'Tautulli''s session_history_media_info.width.';
COMMENT ON COLUMN playback_revisions.height IS 'Tautulli''s session_history_media_info.height.';
COMMENT ON COLUMN playback_revisions.video_bitrate IS
    'Tautulli''s session_history_media_info.video_bitrate.';
COMMENT ON COLUMN playback_revisions.video_bit_depth IS
    'Tautulli''s session_history_media_info.video_bit_depth.';
COMMENT ON COLUMN playback_revisions.video_width IS
    'Tautulli''s session_history_media_info.video_width.';
COMMENT ON COLUMN playback_revisions.video_height IS
    'Tautulli''s session_history_media_info.video_height.';
COMMENT ON COLUMN playback_revisions.audio_bitrate IS
    'Tautulli''s session_history_media_info.audio_bitrate.';
COMMENT ON COLUMN playback_revisions.subtitles IS
    'Tautulli''s session_history_media_info.subtitles.';
COMMENT ON COLUMN playback_revisions.subtitle_forced IS
    'Tautulli''s session_history_media_info.subtitle_forced.';
COMMENT ON COLUMN playback_revisions.transcode_width IS
    'Tautulli''s session_history_media_info.transcode_width.';
COMMENT ON COLUMN playback_revisions.transcode_height IS
    'Tautulli''s session_history_media_info.transcode_height.';
COMMENT ON COLUMN playback_revisions.transcode_hw_requested IS
    'Tautulli''s session_history_media_info.transcode_hw_requested.';
COMMENT ON COLUMN playback_revisions.transcode_hw_full_pipeline IS
    'Tautulli''s session_history_media_info.transcode_hw_full_pipeline.';
COMMENT ON COLUMN playback_revisions.transcode_hw_decoding IS
    'Tautulli''s session_history_media_info.transcode_hw_decoding.';
COMMENT ON COLUMN playback_revisions.transcode_hw_encoding IS
    'Tautulli''s session_history_media_info.transcode_hw_encoding.';
COMMENT ON COLUMN playback_revisions.stream_bitrate IS
    'Tautulli''s session_history_media_info.stream_bitrate.';
COMMENT ON COLUMN playback_revisions.stream_video_bitrate IS
    'Tautulli''s session_history_media_info.stream_video_bitrate.';
COMMENT ON COLUMN playback_revisions.stream_video_bit_depth IS
    'Tautulli''s session_history_media_info.stream_video_bit_depth.';
COMMENT ON COLUMN playback_revisions.stream_video_height IS
    'Tautulli''s session_history_media_info.stream_video_height.';
COMMENT ON COLUMN playback_revisions.stream_video_width IS
    'Tautulli''s session_history_media_info.stream_video_width.';
COMMENT ON COLUMN playback_revisions.stream_audio_bitrate IS
    'Tautulli''s session_history_media_info.stream_audio_bitrate.';
COMMENT ON COLUMN playback_revisions.stream_subtitle_forced IS
    'Tautulli''s session_history_media_info.stream_subtitle_forced.';
COMMENT ON COLUMN playback_revisions.synced_version IS
    'Tautulli''s session_history_media_info.synced_version.';
COMMENT ON COLUMN playback_revisions.optimized_version IS
    'Tautulli''s session_history_media_info.optimized_version.';
COMMENT ON COLUMN playback_revisions.thumb IS 'Tautulli''s session_history_metadata.thumb.';
COMMENT ON COLUMN playback_revisions.parent_thumb IS
    'Tautulli''s session_history_metadata.parent_thumb.';
COMMENT ON COLUMN playback_revisions.grandparent_thumb IS
    'Tautulli''s session_history_metadata.grandparent_thumb.';
COMMENT ON COLUMN playback_revisions.art IS 'Tautulli''s session_history_metadata.art.';
COMMENT ON COLUMN playback_revisions.originally_available_at IS
    'Tautulli''s session_history_metadata.originally_available_at.';
COMMENT ON COLUMN playback_revisions.content_rating IS
    'Tautulli''s session_history_metadata.content_rating.';
COMMENT ON COLUMN playback_revisions.summary IS 'Tautulli''s session_history_metadata.summary.';
COMMENT ON COLUMN playback_revisions.tagline IS 'Tautulli''s session_history_metadata.tagline.';
COMMENT ON COLUMN playback_revisions.rating IS 'Tautulli''s session_history_metadata.rating.';
COMMENT ON COLUMN playback_revisions.directors IS 'Tautulli''s session_history_metadata.directors.';
COMMENT ON COLUMN playback_revisions.writers IS 'Tautulli''s session_history_metadata.writers.';
COMMENT ON COLUMN playback_revisions.actors IS 'Tautulli''s session_history_metadata.actors.';
COMMENT ON COLUMN playback_revisions.genres IS 'Tautulli''s session_history_metadata.genres.';
COMMENT ON COLUMN playback_revisions.studio IS 'Tautulli''s session_history_metadata.studio.';
COMMENT ON COLUMN playback_revisions.labels IS 'Tautulli''s session_history_metadata.labels.';
COMMENT ON COLUMN playback_revisions.channel_call_sign IS
    'Tautulli''s session_history_metadata.channel_call_sign.';
COMMENT ON COLUMN playback_revisions.channel_id IS
    'Tautulli''s session_history_metadata.channel_id.';
COMMENT ON COLUMN playback_revisions.channel_identifier IS
    'Tautulli''s session_history_metadata.channel_identifier.';
COMMENT ON COLUMN playback_revisions.channel_title IS
    'Tautulli''s session_history_metadata.channel_title.';
COMMENT ON COLUMN playback_revisions.channel_thumb IS
    'Tautulli''s session_history_metadata.channel_thumb.';
COMMENT ON COLUMN playback_revisions.channel_vcn IS
    'Tautulli''s session_history_metadata.channel_vcn.';
COMMENT ON COLUMN playback_revisions.video_decision IS
    'Tautulli''s session_history_media_info.video_decision.';
COMMENT ON COLUMN playback_revisions.audio_decision IS
    'Tautulli''s session_history_media_info.audio_decision.';
COMMENT ON COLUMN playback_revisions.container IS
    'Tautulli''s session_history_media_info.container.';
COMMENT ON COLUMN playback_revisions.video_codec IS
    'Tautulli''s session_history_media_info.video_codec.';
COMMENT ON COLUMN playback_revisions.video_codec_level IS
    'Tautulli''s session_history_media_info.video_codec_level.';
COMMENT ON COLUMN playback_revisions.video_resolution IS
    'Tautulli''s session_history_media_info.video_resolution.';
COMMENT ON COLUMN playback_revisions.video_framerate IS
    'Tautulli''s session_history_media_info.video_framerate.';
COMMENT ON COLUMN playback_revisions.video_scan_type IS
    'Tautulli''s session_history_media_info.video_scan_type.';
COMMENT ON COLUMN playback_revisions.video_full_resolution IS
    'Tautulli''s session_history_media_info.video_full_resolution.';
COMMENT ON COLUMN playback_revisions.video_dynamic_range IS
    'Tautulli''s session_history_media_info.video_dynamic_range.';
COMMENT ON COLUMN playback_revisions.aspect_ratio IS
    'Tautulli''s session_history_media_info.aspect_ratio.';
COMMENT ON COLUMN playback_revisions.audio_codec IS
    'Tautulli''s session_history_media_info.audio_codec.';
COMMENT ON COLUMN playback_revisions.audio_language IS
    'Tautulli''s session_history_media_info.audio_language.';
COMMENT ON COLUMN playback_revisions.audio_language_code IS
    'Tautulli''s session_history_media_info.audio_language_code.';
COMMENT ON COLUMN playback_revisions.subtitle_codec IS
    'Tautulli''s session_history_media_info.subtitle_codec.';
COMMENT ON COLUMN playback_revisions.subtitle_language IS
    'Tautulli''s session_history_media_info.subtitle_language.';
COMMENT ON COLUMN playback_revisions.subtitle_decision IS 'What the server did with the subtitles.';
COMMENT ON COLUMN playback_revisions.transcode_protocol IS
    'Tautulli''s session_history_media_info.transcode_protocol.';
COMMENT ON COLUMN playback_revisions.transcode_container IS
    'Tautulli''s session_history_media_info.transcode_container.';
COMMENT ON COLUMN playback_revisions.transcode_video_codec IS
    'Tautulli''s session_history_media_info.transcode_video_codec.';
COMMENT ON COLUMN playback_revisions.transcode_audio_codec IS
    'Tautulli''s session_history_media_info.transcode_audio_codec.';
COMMENT ON COLUMN playback_revisions.transcode_hw_decode IS
    'Tautulli''s session_history_media_info.transcode_hw_decode.';
COMMENT ON COLUMN playback_revisions.transcode_hw_decode_title IS
    'Tautulli''s session_history_media_info.transcode_hw_decode_title.';
COMMENT ON COLUMN playback_revisions.transcode_hw_encode IS
    'Tautulli''s session_history_media_info.transcode_hw_encode.';
COMMENT ON COLUMN playback_revisions.transcode_hw_encode_title IS
    'Tautulli''s session_history_media_info.transcode_hw_encode_title.';
COMMENT ON COLUMN playback_revisions.stream_container IS
    'Tautulli''s session_history_media_info.stream_container.';
COMMENT ON COLUMN playback_revisions.stream_container_decision IS
    'Tautulli''s session_history_media_info.stream_container_decision.';
COMMENT ON COLUMN playback_revisions.stream_video_decision IS
    'Tautulli''s session_history_media_info.stream_video_decision.';
COMMENT ON COLUMN playback_revisions.stream_video_codec IS
    'Tautulli''s session_history_media_info.stream_video_codec.';
COMMENT ON COLUMN playback_revisions.stream_video_codec_level IS
    'Tautulli''s session_history_media_info.stream_video_codec_level.';
COMMENT ON COLUMN playback_revisions.stream_video_resolution IS
    'Tautulli''s session_history_media_info.stream_video_resolution.';
COMMENT ON COLUMN playback_revisions.stream_video_framerate IS
    'Tautulli''s session_history_media_info.stream_video_framerate.';
COMMENT ON COLUMN playback_revisions.stream_video_scan_type IS
    'Tautulli''s session_history_media_info.stream_video_scan_type.';
COMMENT ON COLUMN playback_revisions.stream_video_full_resolution IS
    'Tautulli''s session_history_media_info.stream_video_full_resolution.';
COMMENT ON COLUMN playback_revisions.stream_video_dynamic_range IS
    'Tautulli''s session_history_media_info.stream_video_dynamic_range.';
COMMENT ON COLUMN playback_revisions.stream_audio_decision IS
    'Tautulli''s session_history_media_info.stream_audio_decision.';
COMMENT ON COLUMN playback_revisions.stream_audio_codec IS
    'Tautulli''s session_history_media_info.stream_audio_codec.';
COMMENT ON COLUMN playback_revisions.stream_audio_language IS
    'Tautulli''s session_history_media_info.stream_audio_language.';
COMMENT ON COLUMN playback_revisions.stream_audio_language_code IS
    'Tautulli''s session_history_media_info.stream_audio_language_code.';
COMMENT ON COLUMN playback_revisions.stream_subtitle_decision IS
    'Tautulli''s session_history_media_info.stream_subtitle_decision.';
COMMENT ON COLUMN playback_revisions.stream_subtitle_codec IS
    'Tautulli''s session_history_media_info.stream_subtitle_codec.';
COMMENT ON COLUMN playback_revisions.stream_subtitle_container IS
    'Tautulli''s session_history_media_info.stream_subtitle_container.';
COMMENT ON COLUMN playback_revisions.stream_subtitle_language IS
    'Tautulli''s session_history_media_info.stream_subtitle_language.';
COMMENT ON COLUMN playback_revisions.synced_version_profile IS
    'Tautulli''s session_history_media_info.synced_version_profile.';
COMMENT ON COLUMN playback_revisions.optimized_version_profile IS
    'Tautulli''s session_history_media_info.optimized_version_profile.';
COMMENT ON COLUMN playback_revisions.optimized_version_title IS
    'Tautulli''s session_history_media_info.optimized_version_title.';
COMMENT ON COLUMN playback_revisions.extra IS 'Values that have no column of their own, as JSON.';
COMMENT ON COLUMN playback_revisions.import_id IS
    'The import that added the row; empty for other producers.';
COMMENT ON COLUMN playback_revisions.stream_id IS 'The stream that delivered the event.';
COMMENT ON COLUMN playback_revisions.stream_sequence IS
    'The event''s sequence number on that stream.';
COMMENT ON COLUMN playback_revisions.payload_hash IS
    'Hash of the payload, to detect duplicates with other content.';
COMMENT ON COLUMN playback_revisions.restored_at IS
    'When the row was restored from the audit log, UTC.';
COMMENT ON COLUMN playback_revisions.group_started_at IS
    'When the first play of its group started, UTC; Tautulli groups plays that continue each other.';
COMMENT ON COLUMN playback_revisions.content_hash IS
    'Hash of the content, without names and row numbers.';
COMMENT ON COLUMN playback_revisions.revised_at IS 'When the revision was stored, UTC.';
COMMENT ON TABLE event_aliases IS
    'Event ids under which a stored play came again, with other row numbers.';
COMMENT ON COLUMN event_aliases.event_id IS 'The other event id.';
COMMENT ON COLUMN event_aliases.play_id IS 'Id of the stored play.';
COMMENT ON COLUMN event_aliases.source IS 'The producer that reported the play.';
COMMENT ON COLUMN event_aliases.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN event_aliases.started_at IS 'When the play started, UTC.';
COMMENT ON TABLE servers IS 'Every server id in the tables, and the id that it counts as now.';
COMMENT ON COLUMN servers.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN servers.current_id IS 'The id that it counts as now.';
COMMENT ON COLUMN servers.newest_started_at IS
    'Newest start of a play in the file that spoke last, UTC; NULL if only other producers reported plays.';
COMMENT ON COLUMN servers.created_at IS 'When the row was stored, UTC.';
COMMENT ON TABLE users IS 'The newest known names of users.';
COMMENT ON COLUMN users.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN users.user_id IS 'Id of the user on the server; 0 is a local user.';
COMMENT ON COLUMN users.username IS 'Name of the user in Plex.';
COMMENT ON COLUMN users.friendly_name IS 'Name of the user in Tautulli.';
COMMENT ON TABLE libraries IS 'The newest known names of libraries.';
COMMENT ON COLUMN libraries.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN libraries.section_id IS 'Id of the library on the server.';
COMMENT ON COLUMN libraries.name IS 'Name of the library.';
COMMENT ON COLUMN libraries.type IS 'movie, show, artist or photo.';
COMMENT ON COLUMN libraries.active IS 'Whether Tautulli still finds the library on the server.';
COMMENT ON TABLE dedupe_audit_log IS
    'One row per discarded duplicate, with the row that matched and the key.';
COMMENT ON COLUMN dedupe_audit_log.id IS 'Id of the decision.';
COMMENT ON COLUMN dedupe_audit_log.discarded_event_id IS 'Event id of the duplicate.';
COMMENT ON COLUMN dedupe_audit_log.discarded_payload IS 'The whole duplicate, of limited size.';
COMMENT ON COLUMN dedupe_audit_log.discarded_source IS 'The producer of the duplicate.';
COMMENT ON COLUMN dedupe_audit_log.discarded_server_id IS 'Server of the duplicate.';
COMMENT ON COLUMN dedupe_audit_log.discarded_subject IS 'Subject of its message.';
COMMENT ON COLUMN dedupe_audit_log.matched_event_id IS 'Id of the play that it equals.';
COMMENT ON COLUMN dedupe_audit_log.matched_source IS 'The producer of that play.';
COMMENT ON COLUMN dedupe_audit_log.matched_server_id IS 'Server of that play.';
COMMENT ON COLUMN dedupe_audit_log.dedupe_layer IS 'Who found it: cache or database.';
COMMENT ON COLUMN dedupe_audit_log.dedupe_reason IS 'The key that both share.';
COMMENT ON COLUMN dedupe_audit_log.content_differs IS 'Whether the contents differ.';
COMMENT ON COLUMN dedupe_audit_log.content_hash IS
    'Hash of the content, without names and row numbers.';
COMMENT ON COLUMN dedupe_audit_log.status IS 'auto_dedupe, user_confirmed or user_restored.';
COMMENT ON COLUMN dedupe_audit_log.source_row_id IS 'The row''s id in Tautulli''s history.';
COMMENT ON COLUMN dedupe_audit_log.import_id IS 'The import; empty for other producers.';
COMMENT ON COLUMN dedupe_audit_log.stream_id IS 'The stream that delivered the message.';
COMMENT ON COLUMN dedupe_audit_log.stream_sequence IS
    'Sequence number of the message on that stream.';
COMMENT ON COLUMN dedupe_audit_log.created_at IS 'When the row was stored, UTC.';
COMMENT ON COLUMN dedupe_audit_log.resolved_at IS 'When somebody confirmed or restored it, UTC.';
COMMENT ON TABLE dead_letters IS 'Records that could not become plays, with the reason.';
COMMENT ON COLUMN dead_letters.id IS 'Id of the dead letter.';
COMMENT ON COLUMN dead_letters.reason IS 'Why it could not become a play.';
COMMENT ON COLUMN dead_letters.origin IS 'session_history, or the subject of the message.';
COMMENT ON COLUMN dead_letters.record IS 'The raw record, of limited size.';
COMMENT ON COLUMN dead_letters.event_id IS 'Event id, if it had one.';
COMMENT ON COLUMN dead_letters.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN dead_letters.source_row_id IS 'The row''s id in Tautulli''s history.';
COMMENT ON COLUMN dead_letters.import_id IS 'The import; empty for other producers.';
COMMENT ON COLUMN dead_letters.stream_id IS 'The stream that delivered the message.';
COMMENT ON COLUMN dead_letters.stream_sequence IS 'Sequence number of the message on that stream.';
COMMENT ON COLUMN dead_letters.created_at IS 'When the row was stored, UTC.';
COMMENT ON COLUMN dead_letters.replayed_at IS 'When it was last replayed, UTC.';
COMMENT ON COLUMN dead_letters.closed_at IS 'When it was closed, UTC; NULL while it is open.';
COMMENT ON COLUMN dead_letters.closed_by IS 'import, replay or superseded.';
COMMENT ON COLUMN dead_letters.closed_event_id IS 'The play that it became.';
COMMENT ON TABLE import_ledger IS 'What became of the rows of each partition in each import.';
COMMENT ON COLUMN import_ledger.import_id IS 'The import; empty for other producers.';
COMMENT ON COLUMN import_ledger.partition_key IS 'Range of ids in Tautulli''s history.';
COMMENT ON COLUMN import_ledger.total_records IS 'Rows in the range.';
COMMENT ON COLUMN import_ledger.processed IS 'Rows whose outcome is known.';
COMMENT ON COLUMN import_ledger.published IS 'Rows that were published.';
COMMENT ON COLUMN import_ledger.imported IS 'Rows that this import added to playback_events.';
COMMENT ON COLUMN import_ledger.duplicates_stream IS 'Duplicates that the stream dropped.';
COMMENT ON COLUMN import_ledger.duplicates_cache IS
    'Duplicates that the cache of the consumer found.';
COMMENT ON COLUMN import_ledger.duplicates_database IS 'Duplicates that the tables had.';
COMMENT ON COLUMN import_ledger.rejected IS 'Rows that became dead letters.';
COMMENT ON COLUMN import_ledger.errors IS 'Rows that could not be read.';
COMMENT ON COLUMN import_ledger.published_at IS 'When the last of them was published, UTC.';
COMMENT ON COLUMN import_ledger.settled_at IS 'When the outcomes were counted, UTC.';
COMMENT ON COLUMN import_ledger.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN import_ledger.revised IS 'Rows that brought newer content.';
COMMENT ON TABLE stream_positions IS 'The last message of each stream that is in the tables.';
COMMENT ON COLUMN stream_positions.stream_id IS 'The stream that delivered the message.';
COMMENT ON COLUMN stream_positions.last_sequence IS 'Last sequence number that is in the tables.';
COMMENT ON COLUMN stream_positions.updated_at IS 'When it was written, UTC.';
COMMENT ON TABLE warehouse_identity IS 'One row that tells this warehouse from others.';
COMMENT ON COLUMN warehouse_identity.warehouse_id IS 'Id of this warehouse.';
COMMENT ON COLUMN warehouse_identity.created_at IS 'When the warehouse was created, UTC.';
COMMENT ON TABLE schema_migrations IS 'The migrations that this file has.';
COMMENT ON COLUMN schema_migrations.name IS 'Name of the migration.';
COMMENT ON COLUMN schema_migrations.applied_at IS 'When it was applied, UTC.';
COMMENT ON VIEW near_matches IS
    'Pairs of plays that are probably one, reported with different times.';
COMMENT ON VIEW suspicious_plays IS 'Plays with impossible figures.';
COMMENT ON COLUMN near_matches.first_event_id IS 'The play that started first.';
COMMENT ON COLUMN near_matches.second_event_id IS 'The other play.';
COMMENT ON COLUMN near_matches.server_id IS 'Server of the first play.';
COMMENT ON COLUMN near_matches.second_server_id IS 'Server of the second play.';
COMMENT ON COLUMN near_matches.same_server IS
    'Whether both ids count as one server; if not, a live producer may use another id for it.';
COMMENT ON COLUMN near_matches.user_id IS 'Id of the user on the server.';
COMMENT ON COLUMN near_matches."user" IS 'Name of the user.';
COMMENT ON COLUMN near_matches.title IS 'Title of the first play.';
COMMENT ON COLUMN near_matches.grandparent_title IS 'Show or artist of the first play.';
COMMENT ON COLUMN near_matches.first_source IS 'The producer that reported the first play.';
COMMENT ON COLUMN near_matches.second_source IS 'The producer that reported the second play.';
COMMENT ON COLUMN near_matches.first_started_at IS 'When the first play started, UTC.';
COMMENT ON COLUMN near_matches.second_started_at IS 'When the second play started, UTC.';
COMMENT ON COLUMN near_matches.seconds_apart IS 'Seconds between the two starts.';
COMMENT ON COLUMN near_matches.overlap_seconds IS 'Seconds during which both plays ran.';
COMMENT ON COLUMN near_matches.same_rating_key IS 'Whether both plays have the same rating key.';
COMMENT ON COLUMN suspicious_plays.event_id IS 'The play.';
COMMENT ON COLUMN suspicious_plays.flags IS
    'What is wrong: `stop_before_start`, `duration_beyond_runtime`, `pause_beyond_duration` or '
    '`repeated_within_seconds`.';
COMMENT ON COLUMN suspicious_plays.source IS 'The producer that reported the play.';
COMMENT ON COLUMN suspicious_plays.source_row_id IS 'The play''s id in Tautulli''s history.';
COMMENT ON COLUMN suspicious_plays.server_id IS 'Identifies the Plex server.';
COMMENT ON COLUMN suspicious_plays.user_id IS 'Id of the user on the server.';
COMMENT ON COLUMN suspicious_plays."user" IS 'Name of the user.';
COMMENT ON COLUMN suspicious_plays.title IS 'Title of the item.';
COMMENT ON COLUMN suspicious_plays.grandparent_title IS 'Title of the show or artist.';
COMMENT ON COLUMN suspicious_plays.started_at IS 'When the play started, UTC.';
COMMENT ON COLUMN suspicious_plays.stopped_at IS 'When the play stopped, UTC.';
COMMENT ON COLUMN suspicious_plays.play_duration IS 'Seconds played, without pauses.';
COMMENT ON COLUMN suspicious_plays.paused_counter IS 'Seconds paused.';
COMMENT ON COLUMN suspicious_plays.media_duration IS 'Length of the item in whole seconds.';
