"""What to quantize or prune, chosen within a budget."""
