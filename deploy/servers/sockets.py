"""Where unix sockets may lie: their whole path must fit into 107 bytes."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from deploy.process import Identity
from deploy.refusals import Refused

_MOST_BYTES: Final = 107


def socket_folder(preferred: Path, socket: str, *, otherwise: str, identity: Identity | None = None) -> Path:
    """A folder that only `identity` (else this user) may enter.

    When the data directory lies too deep it is `otherwise`, a name that is nobody else's, beside the temporary files.
    """
    for folder in (preferred, Path(tempfile.gettempdir()) / otherwise):
        if len(os.fsencode(folder / socket)) <= _MOST_BYTES:
            return _private(folder, identity)
    raise Refused(
        f"The path of the socket {preferred / socket} is too long: set AUTOMATEOS_DATA_DIR to a shorter one."
    )


def _private(folder: Path, identity: Identity | None) -> Path:
    uid = os.geteuid() if identity is None else identity.uid
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        # In a place where everybody may write, a stranger may have been there first.
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
            raise Refused(f"{folder} must be a folder of user {uid}: remove what lies there.") from None
        folder.chmod(0o700)
        return folder
    if identity is not None:
        os.chown(folder, identity.uid, identity.gid)
    return folder
