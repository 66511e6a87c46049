"""A real small model on MUSE-shaped data: target, retrain, every method, one table (``make reproduce-small``)."""
