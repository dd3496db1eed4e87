"""Whose request this is, when proxies stand in front: worked out here and nowhere else."""

import ipaddress


def client_address(peer: str, forwarded_for: str, trusted_proxies: int) -> str:
    """The address of the client. Each trusted proxy appended one entry to `X-Forwarded-For`; what stands before is hearsay.

    Without trusted proxies the header counts for nothing. A short or broken header gives the last address that a trusted
    proxy (or the connection itself) vouches for.
    """
    if trusted_proxies == 0 or not forwarded_for:
        return peer
    hops = [*(entry.strip() for entry in forwarded_for.split(",")), peer]
    for hop in hops[-(trusted_proxies + 1) :]:
        address = _address(hop)
        if address:
            return address
    return peer


def _address(text: str) -> str:
    host = text.removeprefix("[").partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]  # Some proxies append the port.
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""
