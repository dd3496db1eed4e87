"""What the operator's commands stand on: how to reach into a running stack, read its histories and act on it."""
