"""What an earlier version left on disk, and how it was made."""
