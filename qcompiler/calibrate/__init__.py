"""Statistics of the values in a graph, collected on samples."""
