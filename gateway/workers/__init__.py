"""Workers outside: they announce node types, ask for work, keep it by lease, and report what came of it."""
