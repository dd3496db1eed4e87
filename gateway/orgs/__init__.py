"""What belongs to the org as a whole: its variables."""
