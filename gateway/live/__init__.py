"""Events as they happen, to whoever watches."""
