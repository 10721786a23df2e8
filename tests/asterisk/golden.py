"""Every preset as an operator would fill it in, and its rendering kept in `golden/`.

    python -m tests.asterisk.golden      writes the golden files anew; look at the difference before you commit it

A golden file shows what a change of a preset or of the renderer does to all of them; that Asterisk takes them
without a warning is shown beside it (`test_trunks.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sipagent.asterisk import trunks
from sipagent.config import Trunk
from sipagent.config.presets import presets

FOLDER = Path(__file__).with_name("golden")
LOGIN = {"user": "acme", "password": "correct;horse\\;battery"}
DID = "+442079460123"

SAMPLES: dict[str, dict[str, Any]] = {
    "vonage": {"hosts": ["acme.sip-eu.vonage.com"], "auth": LOGIN, "numbers": [DID], "region": "GB",
               "caller_id": {"allow": [DID], "default": DID}},
    "vonage-legacy": {"auth": LOGIN, "numbers": [DID]},
    "twilio": {"hosts": ["acme.pstn.dublin.twilio.com", "acme.pstn.frankfurt.twilio.com"], "transport": "tls",
               "srtp": "required", "auth": LOGIN, "numbers": [DID], "refer": "sip"},
    "telnyx": {"auth": LOGIN, "numbers": ["+12125550123"], "region": "US", "dial_prefix": "1234"},
    "bandwidth": {"hosts": ["192.0.2.1", "192.0.2.2"], "networks": ["192.0.2.1", "192.0.2.2"],
                  "numbers": ["+1212555*"]},
    "plivo": {"hosts": ["2100.zt.plivo.com"], "auth": LOGIN, "networks": ["198.51.100.0/27"], "numbers": [DID]},
    "generic-ip": {"hosts": ["203.0.113.9:5080"], "networks": ["203.0.113.8/29", "2001:db8::/48"], "numbers": [DID],
                   "number_format": "national", "region": "GB", "codecs": ["g722", "ulaw"]},
    "generic-registration": {"hosts": ["sip.example.net"], "auth": LOGIN, "numbers": [DID], "region": "GB"},
    "pbx": {"hosts": ["10.1.0.5"], "networks": ["10.1.0.5"], "numbers": ["400-449", "*98"]},
    "pbx-freepbx": {"hosts": ["10.2.0.5:5160"], "networks": ["10.2.0.5"], "numbers": ["_75XX"]},
    "pbx-3cx": {"auth": {"password": "a-long-secret-of-3cx"}, "networks": ["10.3.0.0/24"], "numbers": ["_4XX"]},
    "pbx-cucm": {"hosts": ["10.4.0.5", "10.4.0.6"], "networks": ["10.4.0.5", "10.4.0.6"], "numbers": ["_4[0-4]X"]},
    "pbx-avaya": {"hosts": ["10.5.0.5"], "networks": ["10.5.0.5"], "from_domain": "agents.example.com",
                  "numbers": ["_8XXX", "reception"]},
    "pbx-teams-sbc": {"hosts": ["sbc.example.com:5061"], "networks": ["10.6.0.5"], "numbers": [DID, "+44207946*"]},
    "phone": {"auth": {"password": "a-long-secret-of-a-phone"}},
    "webrtc": {"auth": {"password": "a-long-secret-of-a-tab"}, "numbers": ["_4XX"]},
}  # fmt: skip


def samples() -> dict[str, Trunk]:
    """Each preset once, as a trunk of the preset's name with `-1`."""
    return {f"{preset}-1": Trunk(preset=preset, **SAMPLES[preset]) for preset in presets()}


def rendering(name: str, trunk: Trunk) -> str:
    """All that one trunk becomes."""
    parts = {"trunks.d": trunks.pjsip(name, trunk), "dialplan.d": trunks.dialplan(name, trunk)}
    if trunk.networks:
        parts["acl.d"] = trunks.acl(name, trunk)
    return "\n".join(f"; ---- {folder}/{name}.conf\n{text}" for folder, text in parts.items())


def write() -> None:
    """Bring the folder up to date."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.conf"):
        old.unlink()
    for name, trunk in samples().items():
        (FOLDER / f"{trunk.preset}.conf").write_text(rendering(name, trunk))


if __name__ == "__main__":
    write()
