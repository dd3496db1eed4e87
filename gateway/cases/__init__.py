"""Trying workflows out: test runs of drafts, cases that are kept with a workflow, and what came of them."""
