"""`python -m tautulli_pipeline`."""

from tautulli_pipeline.cli import main

if __name__ == "__main__":
    main()
