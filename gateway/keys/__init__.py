"""API keys: issued, listed, revoked."""
