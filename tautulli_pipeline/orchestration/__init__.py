"""Dagster: partitions, assets, jobs and the instance that remembers them."""
