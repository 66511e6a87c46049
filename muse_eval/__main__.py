"""Lets ``python -m muse_eval`` be the command line."""

from muse_eval.cli.app import main

if __name__ == "__main__":
    main()
