"""Targets: what each can run, and how the graph is written for it."""
