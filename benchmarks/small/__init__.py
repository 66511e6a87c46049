"""A real small model on MUSE-shaped data, from target to table (``make reproduce-small``)."""
