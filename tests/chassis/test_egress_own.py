"""Which run asks is said to our own addresses and to nobody else, whatever a node and a redirect want."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chassis.chains import HEADER
from chassis.egress import Credential, Egress, EgressError, Request
from chassis.egress.opening import own_addresses
from chassis.egress.own import OwnAddresses
from chassis.egress.urls import parse_url
from chassis.lifecycle import CannotStart
from chassis.secret import HeaderSecret, Secret
from chassis.settings import Settings
from tests.chassis.test_egress import World, redirect


@pytest.fixture
async def ours() -> AsyncIterator[World]:
    async with World().running() as running:
        yield running


@pytest.fixture
async def theirs() -> AsyncIterator[World]:
    async with World().running() as running:
        yield running


def said() -> str:
    return "run-1.proof"


def never() -> str:
    raise AssertionError("nobody but our own addresses is told")


def egress(*allow: World, own: str) -> Egress:
    return Egress([target for each in allow for target in each.allowed], own=OwnAddresses([own]))


def get(url: str, **more: Any) -> Request:
    return Request(method="GET", url=url, **more)


async def test_our_own_address_is_told_and_nobody_else(ours: World, theirs: World) -> None:
    async with egress(ours, theirs, own=ours.url) as client:
        here = await client.request(get(f"{ours.url}/hooks/a", cause=said))
        elsewhere = await client.request(get(theirs.url, cause=never))
        await client.request(get(ours.url))
    assert (here.ours, elsewhere.ours) == (True, False)
    assert [asked.headers.get(HEADER) for asked in ours.asked] == ["run-1.proof", None]
    assert HEADER not in theirs.asked[0].headers


async def test_a_redirect_away_from_us_takes_nothing_along(ours: World, theirs: World) -> None:
    async with egress(ours, theirs, own=ours.url) as client:
        ours.answering = redirect(theirs.url, 307)
        answer = await client.request(get(ours.url, cause=said))
    assert not answer.ours
    assert ours.asked[0].headers[HEADER] == "run-1.proof"
    assert HEADER not in theirs.asked[0].headers


async def test_who_is_led_to_us_by_others_is_known_all_the_same(ours: World, theirs: World) -> None:
    async with egress(ours, theirs, own=ours.url) as client:
        theirs.answering = redirect(f"{ours.url}/hooks/a", 307)
        answer = await client.request(get(theirs.url, cause=said))
    assert answer.ours
    assert HEADER not in theirs.asked[0].headers
    assert ours.asked[0].headers[HEADER] == "run-1.proof"


@pytest.mark.parametrize("name", [HEADER, "AutomateOS-Cause", "AUTOMATEOS-CAUSE"])
async def test_nobody_says_it_in_our_place(ours: World, name: str) -> None:
    async with egress(ours, own=ours.url) as client:
        with pytest.raises(EgressError) as refused:
            await client.request(get(ours.url, headers={name: "forged"}, cause=said))
        assert (refused.value.reason, refused.value.touched) == ("bad_request", False)
        secret = HeaderSecret(name=name, value=Secret(b"forged"))
        with pytest.raises(EgressError):
            await client.request(
                get(ours.url, credential=Credential(value=secret, allowed_hosts=("127.0.0.1",)), cause=said)
            )
    assert ours.asked == []


@pytest.mark.parametrize(
    ("own", "url", "is_ours"),
    [
        ("https://hooks.example.com", "https://HOOKS.example.com./hooks/a?b=c", True),
        ("https://hooks.example.com/", "https://hooks.example.com:443/", True),
        ("https://hooks.example.com", "https://hooks.example.com:8443/", False),
        ("https://hooks.example.com", "http://hooks.example.com/", False),
        ("https://hooks.example.com", "https://hooks.example.com.evil.org/", False),
        ("https://hooks.example.com", "https://example.com/hooks.example.com", False),
        ("https://example.com/flows", "https://example.com/flows/hooks/a", True),
        ("https://example.com/flows/", "https://example.com/flows?a=b", True),
        ("https://example.com/flows", "https://example.com/flowsome", False),
        ("https://example.com/flows", "https://example.com/", False),
        ("https://example.com/flows", "https://example.com/flows/../shop", False),
        ("https://example.com/flows", "https://example.com/flows/%2E%2e/shop", False),
        ("http://127.0.0.1:8400", "http://localhost:8400/hooks/a", True),
        ("http://localhost:8400", "http://[::1]:8400/hooks/a", True),
        ("http://127.0.0.1:8400", "http://127.0.0.1:8401/api/v1/runs", False),
    ],
)
def test_an_address_is_ours_by_its_origin_and_its_path(own: str, url: str, is_ours: bool) -> None:
    assert OwnAddresses([own]).has(parse_url(url)) == is_ours


def test_the_settings_name_our_addresses() -> None:
    own = own_addresses(
        Settings(
            public_url="https://hooks.example.com", own_urls="https://api.example.com, http://gateway:8401"
        )
    )
    for url in (
        "https://hooks.example.com/hooks/a",
        "https://api.example.com/api",
        "http://gateway:8401/api",
    ):
        assert own.has(parse_url(url))
    assert not own.has(parse_url("http://gateway:8400/"))
    assert own_addresses(Settings()).has(parse_url("http://localhost:8401/api/v1/runs"))


@pytest.mark.parametrize("text", ["gateway:8401", "ftp://here", "http://a@b", "https://here/?a=b"])
def test_an_address_of_ours_that_cannot_be_read_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(CannotStart):
        own_addresses(Settings(own_urls=text))
