"""One real installation for all stories: `automateos up` as an operator would start it."""

from collections.abc import Iterator

import pytest

from deploy.testing.installation import Installation, installation


@pytest.fixture(scope="session")
def installed() -> Iterator[Installation]:
    with installation(egress_allow="127.0.0.1/32:*") as running:
        running.start()
        yield running
