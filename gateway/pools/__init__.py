"""Pools: who takes which tasks, what waits, and holding a pool or sending an executor home."""
