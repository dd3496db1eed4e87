"""Log lines of these tests are the services' own: one JSON object each, without a traceback's locals."""

import sys

import pytest

from chassis.telemetry import configure_logs


@pytest.fixture(autouse=True, scope="session")
def _log_lines() -> None:
    configure_logs("orchestrator", out=sys.stderr.buffer)
