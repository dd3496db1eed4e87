"""Makes one attempt at one step and reports what happened."""
