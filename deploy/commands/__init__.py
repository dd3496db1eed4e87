"""The commands of `automateos`, one module per noun. Each imports what it needs when it is called."""
