"""How the parts become a system: servers, supervisor, command line."""
