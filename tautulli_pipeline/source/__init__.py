"""Reads a Tautulli or PlexPy database through a private copy."""
