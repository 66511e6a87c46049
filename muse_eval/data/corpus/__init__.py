"""A corpus of one's own: texts cut into the splits of a task, and the task's YAML."""
