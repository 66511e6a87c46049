"""Many models in one command, each scored in a process of its own, here or on a Ray cluster."""
