"""What was done and measured, as JSON and as a page."""
