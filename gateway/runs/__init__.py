"""Starting runs, looking at them, and steering them."""
