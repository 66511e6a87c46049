"""Probes, one file each: what alters a model, or asks it otherwise."""
