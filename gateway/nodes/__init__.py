"""The catalogue of node types that executors announced."""
