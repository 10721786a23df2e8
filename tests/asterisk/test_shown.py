"""What `check` and `render` print: everything that is in force, and no secret."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from pydantic import SecretStr

from sipagent import switch
from sipagent.asterisk import shown
from sipagent.asterisk.conf import render
from sipagent.asterisk.root import Root
from sipagent.config import Settings
from sipagent.config.ivr import Mailbox
from sipagent.config.presets import presets
from tests.asterisk import golden

PRESET_DAY = presets()["vonage"].date


def settings(tmp_path: Path, **trunks: dict[str, object]) -> Settings:
    secret = {"password": SecretStr("ari-secret"), "phone_password": SecretStr("phone-secret")}
    return Settings(
        run_dir=tmp_path / "run",
        asterisk=secret,  # type: ignore[arg-type]
        agents={"a": {"instructions": "x"}},  # type: ignore[dict-item]
        routes=({"go": "agent:a"},),  # type: ignore[arg-type]
        trunks=trunks,  # type: ignore[arg-type]
    )


@pytest.fixture
def root(tmp_path: Path) -> Root:
    library = tmp_path / "root/usr/lib/tri"
    library.mkdir(parents=True)
    (library / "ld-linux-x.so.2").touch()
    return Root(tmp_path / "root")


def test_a_trunk_in_words() -> None:
    text = "\n".join(shown.trunk("v", golden.samples()["vonage-1"], PRESET_DAY))
    for part in ("preset vonage of 2026-", "https://", "216.147.0.0/18", "the preset's", golden.DID, "SRTP optional"):
        assert part in text
    assert "correct" not in text
    assert "STALE" not in text


def test_old_networks_are_called_stale_unless_they_are_the_operators() -> None:
    later = PRESET_DAY + dt.timedelta(days=200)
    vonage = golden.samples()["vonage-1"]
    assert "200 days old" in "\n".join(shown.trunk("v", vonage, later))
    own = vonage.model_copy(update={"networks": ("203.0.113.0/24",)})
    assert "STALE" not in "\n".join(shown.trunk("v", own, later))


def test_no_secret_in_a_shown_rendering(tmp_path: Path) -> None:
    made = settings(tmp_path, carrier={"preset": "telnyx", **golden.SAMPLES["telnyx"]})
    config = switch.asterisk_config(made)
    files = shown.masked(config.files, made, config)
    assert "password = ********" in files["trunks.d/carrier.conf"]
    assert "horse" not in "".join(files.values())


def test_the_difference_to_what_runs(tmp_path: Path, root: Root) -> None:
    sample = {"preset": "telnyx", **golden.SAMPLES["telnyx"]}
    config = switch.asterisk_config(settings(tmp_path, carrier=sample))
    render(config, root)
    assert shown.difference(settings(tmp_path, carrier=sample), config, root) == ""
    new = settings(tmp_path, carrier={**sample, "channels": 7, "auth": {"user": "acme", "password": "another"}})
    text = shown.difference(new, switch.asterisk_config(new), root)
    assert "+exten => +12125550123,1,Gosub(trunk,s,1(carrier,7,${EXTEN}))" in text
    assert "horse" not in text
    assert "another" not in text
    only = settings(tmp_path, carrier={**sample, "auth": {"user": "acme", "password": "another"}})
    assert shown.difference(only, switch.asterisk_config(only), root) == "trunks.d/carrier.conf: a secret changed"
    gone = settings(tmp_path)
    assert "-[trunk.carrier]" in shown.difference(gone, switch.asterisk_config(gone), root)


def test_a_pin_of_before_is_not_shown_whatever_its_mailbox_is_called(tmp_path: Path, root: Root) -> None:
    def with_pins(**pins: str) -> Settings:
        boxes = {name: Mailbox(pin=SecretStr(pin)) for name, pin in pins.items()}
        return settings(tmp_path).model_copy(update={"mailboxes": boxes})

    config = switch.asterisk_config(with_pins(office="4711", anna_b="5822", **{"12": "0815"}))
    render(config, root)
    changed = with_pins(office="9911", **{"12": "9922"})
    text = shown.difference(changed, switch.asterisk_config(changed), root)
    assert "-anna_b => ********" in text
    assert not [pin for pin in ("4711", "5822", "0815", "9911", "9922") if pin in text]
    only = with_pins(office="9911", anna_b="5822", **{"12": "0815"})
    assert "a secret changed" in shown.difference(only, switch.asterisk_config(only), root)
