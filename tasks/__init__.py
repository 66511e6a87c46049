"""MUSE tasks, one file each."""
