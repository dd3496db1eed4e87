"""A refusal with its place in the document."""


class Refused(Exception):
    """The document is none that node types can be made of."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer
