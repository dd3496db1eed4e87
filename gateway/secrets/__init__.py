"""Secrets go in and never come out."""
