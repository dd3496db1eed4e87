"""What starts runs from outside: addresses, their settings and what they received."""
