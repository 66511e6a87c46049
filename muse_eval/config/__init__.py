"""What a task, a run and a recipe are made of: strict frozen specs, read from YAML and from options."""
