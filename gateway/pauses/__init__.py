"""What an org has paused, and what is held."""
