"""Pure functions of arrays of numbers: AUC and intervals; no model, no file."""
