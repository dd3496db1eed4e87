"""Places in JSON values, as RFC 6901 writes them."""


def escaped(name: str) -> str:
    """A name as one part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
