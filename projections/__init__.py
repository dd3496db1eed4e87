"""Turns the log into tables that can be asked, keeps the archive, and has stragglers looked at."""
