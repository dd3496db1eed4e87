"""AWS Signature Version 4: proves who asks without sending the key.

Rule that holds here: what is signed is read from the URL as it goes on the line, so the two cannot differ.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from chassis.egress.urls import Target
from chassis.secret import Secret

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Signer(Struct, frozen=True, kw_only=True):
    """Who signs, and for which service where."""

    key_id: str
    key: Secret
    region: str
    service: str = "s3"

    def sign(
        self, method: str, target: Target, headers: Mapping[str, str], now: datetime, *, digest: str
    ) -> dict[str, str]:
        """The headers with the signature among them. All of them are signed, and the host. `digest`: of the body."""
        moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        signed |= {"host": target.authority, "x-amz-date": moment}
        names = sorted(signed)
        path, _, query = target.path.decode("ascii").partition("?")
        lines = [
            method,
            path,
            "&".join(sorted(_pair(each) for each in query.split("&") if each)),
            *(f"{name}:{signed[name]}" for name in names),
            "",
            ";".join(names),
            digest,
        ]
        scope = f"{moment[:8]}/{self.region}/{self.service}/aws4_request"
        asked = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        text = f"{_ALGORITHM}\n{moment}\n{scope}\n{asked}"
        signature = hmac.digest(self._key(moment[:8]), text.encode(), "sha256").hex()
        authorization = f"{_ALGORITHM} Credential={self.key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
        return {**headers, "x-amz-date": moment, "authorization": authorization}

    def _key(self, day: str) -> bytes:
        key = b"AWS4" + self.key.reveal()
        for part in (day, self.region, self.service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


def _pair(text: str) -> str:
    """A name without a value has an empty one."""
    return text if "=" in text else f"{text}="
