"""Forget losses, one file each (MUSE, section 4.1, and the methods' own papers)."""
