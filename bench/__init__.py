"""What AutomateOS does per second on this machine: one command, every figure with what it was measured beside."""
