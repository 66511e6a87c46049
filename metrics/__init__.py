"""MUSE metrics, one file each."""
