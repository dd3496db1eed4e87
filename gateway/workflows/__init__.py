"""Workflows and their versions: drawn, checked, published."""
