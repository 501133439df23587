"""`up`: the stream server, Dagster's webserver and its daemon, side by side."""
