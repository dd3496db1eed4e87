"""Whose request it is, when proxies stand in front."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.edge.addresses import client_address


@pytest.mark.parametrize(
    ("forwarded", "proxies", "client"),
    [
        ("203.0.113.9", 0, "10.0.0.1"),
        ("", 1, "10.0.0.1"),
        ("203.0.113.9", 1, "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", 1, "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.0.0.2", 2, "203.0.113.9"),
        ("203.0.113.9", 2, "203.0.113.9"),
        ("unknown", 1, "10.0.0.1"),
        ("6.6.6.6, unknown", 1, "10.0.0.1"),
        ("203.0.113.9:4711", 1, "203.0.113.9"),
        ("2001:db8::1", 1, "2001:db8::1"),
        ("[2001:DB8::1]:443", 1, "2001:db8::1"),
    ],
)
def test_only_what_trusted_proxies_appended_is_believed(forwarded: str, proxies: int, client: str) -> None:
    assert client_address("10.0.0.1", forwarded, proxies) == client


@given(st.text(max_size=60))
def test_without_trusted_proxies_no_header_moves_the_address(forwarded: str) -> None:
    assert client_address("10.0.0.1", forwarded, 0) == "10.0.0.1"


@given(st.text(max_size=60))
def test_a_spoofed_prefix_never_reaches_past_the_trusted_proxy(spoofed: str) -> None:
    assert client_address("10.0.0.1", f"{spoofed}, 203.0.113.9", 1) == "203.0.113.9"
