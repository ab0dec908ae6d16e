"""Passes that make numbers smaller and record the error."""
