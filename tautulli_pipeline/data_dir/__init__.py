"""The data directory: where everything is, who may write it, and what its disk refuses."""
