"""What stands between a stranger and a service: bounds, deadlines, problems, headers."""
