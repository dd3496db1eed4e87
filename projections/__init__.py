"""Folds the log into the tables that people read."""
