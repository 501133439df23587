"""A made-up Tautulli database, for trying the pipeline out."""
