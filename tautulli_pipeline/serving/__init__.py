"""The `up` command: the stream server, Dagster's webserver and Dagster's daemon."""
