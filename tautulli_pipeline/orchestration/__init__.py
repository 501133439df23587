"""Dagster assets, partitions, jobs, checks, sensors, and the instance of a data directory."""
