"""Node types made of OpenAPI documents: read in a process apart, kept per org, never changed."""
