"""What the ports of a workflow's nodes have brought: schemas, inferred from what its runs recorded."""
