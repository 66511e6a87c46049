"""The campaign: command lines, files and answers that mean no good, or were mistyped."""
