"""Patterns, the matcher that finds them and the driver that applies rules."""
