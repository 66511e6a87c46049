"""What is told of stored runs: rows, tables, the gate, trajectories, figures; no model is opened here.

This is code; the folder ``results/`` at the project's root holds data, the runs themselves.
"""
