"""Passes that leave the model's numbers as they are."""
