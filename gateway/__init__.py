"""The HTTP API: commands in, read models and live events out."""
