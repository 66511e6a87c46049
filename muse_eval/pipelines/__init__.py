"""From a target to the table of its unlearned models: every stage skipped where its result is there."""
