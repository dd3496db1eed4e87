"""The ports on JetStream, by way of nats-py."""
