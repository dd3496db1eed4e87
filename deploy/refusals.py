"""Why the stack does not start, in one line for the person at the terminal."""


class Refused(Exception):
    """The message is the whole answer: no stack trace belongs under it."""
