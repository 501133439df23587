"""Brings a Tautulli history into DuckDB whole, fast and provably complete."""

import logging

# Without a handler of the program's choice, log records go nowhere.
logging.getLogger(__name__).addHandler(logging.NullHandler())
