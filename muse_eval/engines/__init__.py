"""Engines: a model behind three questions (see ``types.Engine``)."""
