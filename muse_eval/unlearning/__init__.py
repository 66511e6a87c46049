"""Unlearning: forget losses, retain terms and the training loop."""
