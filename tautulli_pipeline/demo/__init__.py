"""Generates a made-up Tautulli database for trying out the pipeline."""
