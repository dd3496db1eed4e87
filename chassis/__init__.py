"""What every service stands on: the log and its ports, settings, telemetry, sealing, egress."""
