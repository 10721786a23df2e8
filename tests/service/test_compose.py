"""docker-compose.yml as it stands; tools/compose-test.sh runs it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from sipagent.app import STOP_WITHIN_S
from sipagent.control.upgrade import FAREWELL_S
from tools.generate import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["network_mode"] == "host"
    assert service["healthcheck"]["test"]


def test_only_the_node_comes_up_by_itself() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"asterisk", "sipagent"}


def test_what_is_used_is_defined() -> None:
    for service in SERVICES.values():
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        volumes = [one.partition(":")[0] for one in service["volumes"] if isinstance(one, str)]
        assert {name for name in volumes if not name.startswith(".")} <= set(COMPOSE["volumes"])


def test_secrets_that_nobody_named_are_not_there() -> None:
    """/dev/null is no regular file, so the settings pass over it."""
    assert all(secret["file"].endswith(":-/dev/null}") for secret in COMPOSE["secrets"].values())


def test_docker_waits_for_the_drain() -> None:
    found = re.fullmatch(r"\$\{SIPAGENT_STOP_GRACE:-(\d+)s\}", SERVICES["sipagent"]["stop_grace_period"])
    assert found
    assert float(found[1]) > FAREWELL_S + STOP_WITHIN_S
    drain, grace = (re.search(rf"# SIPAGENT_{name}=(\d+)", (ROOT / ".env.example").read_text()) for name in
                    ("CONTROL__DRAIN_S", "STOP_GRACE"))  # fmt: skip
    assert drain
    assert grace
    assert int(grace[1]) > int(drain[1]) + FAREWELL_S + STOP_WITHIN_S


def test_every_variable_of_the_example_does_something() -> None:
    names = re.findall(r"^# ([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(names) > 8
    assert [name for name in names if not re.search(rf"\b{name}\b", TEXT)] == []


def test_records_and_recordings_have_volumes_with_an_owner() -> None:
    """A new volume takes owner and mode from the image; root's would be of no use to us."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name in ("records", "recordings"):
        assert f"{name}:/var/lib/sipagent/{name}" in SERVICES["sipagent"]["volumes"]
        assert f"/var/lib/sipagent/{name}" in dockerfile
