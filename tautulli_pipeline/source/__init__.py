"""The source: a Tautulli or PlexPy database, read through a private copy."""
