"""Carries a recipe out: the training loop, its processes, its output folder."""
