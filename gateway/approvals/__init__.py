"""Questions that runs ask people: which are open, and deciding them."""
