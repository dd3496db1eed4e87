"""The door for webhooks: verify, name, accept."""
