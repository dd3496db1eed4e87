"""Which release this is: what commits, the document and the page of the API say."""

from importlib.metadata import version
from typing import Final

RELEASE: Final = version("automateos")
