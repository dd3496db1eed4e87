"""Real servers for tests and benchmarks: this project's own, and those who build on it."""
