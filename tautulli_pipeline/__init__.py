"""Imports the history of a Tautulli database into DuckDB."""

import logging

# Without a handler of the program's choice, log records go nowhere.
logging.getLogger(__name__).addHandler(logging.NullHandler())
