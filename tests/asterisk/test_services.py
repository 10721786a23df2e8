"""Queues and mailboxes in Asterisk's words."""

from typing import Any

from sipagent.asterisk import services
from sipagent.config import Settings

COMPANY: dict[str, Any] = {
    "agents": {"a": {"instructions": "x"}},
    "routes": [{"go": "queue:front"}],
    "trunks": {"pbx": {"preset": "generic-ip", "hosts": ["192.0.2.1"], "number_format": "digits"}},
    "queues": {
        "front": {"members": ["401@pbx", "phone"], "keys": {"1": "hangup", "*": "hangup", "_4XX": "agent:a"}},
        "back": {"members": ["phone"], "announce_position": False},
    },
    "mailboxes": {"office": {"pin": "4711", "email": "office@example.com"}, "silent": {}},
}


def test_only_its_own_keys_lead_out_of_a_queue() -> None:
    files = services.files(Settings(**COMPANY))
    assert files["dialplan.d/queues.conf"].splitlines() == [
        "[sipagent-queue-keys.front]",
        *(f"exten => {key},1,Gosub(sipagent-back,s,1(${{EXTEN}}))" for key in ("1", "*", "_4XX")),
    ]
    front, back = files["queues.d/queues.conf"].split("[back]")
    assert "context = sipagent-queue-keys.front" in front
    assert "context" not in back


def test_members_are_extensions_of_a_trunk_or_phones() -> None:
    queues = services.files(Settings(**COMPANY))["queues.d/queues.conf"]
    assert "member => PJSIP/401@pbx,0,401@pbx,PJSIP/pbx,yes\n" in queues
    assert "member => PJSIP/phone,0,phone,PJSIP/phone\n" in queues


def test_positions_are_announced_where_wanted() -> None:
    front, back = services.files(Settings(**COMPANY))["queues.d/queues.conf"].split("[back]")
    assert "announce-position = yes\nannounce-frequency = 45" in front
    assert "announce-position = no\nannounce-frequency = 0" in back


def test_mail_is_off_unless_there_is_an_address() -> None:
    assert services.files(Settings(**COMPANY))["voicemail.d/mailboxes.conf"].splitlines() == [
        "[sipagent]",
        "office => 4711,office,office@example.com,,attach=yes|maxsecs=180",
        "silent => ,silent,,,attach=no|maxsecs=180",
    ]


def test_a_company_without_any_has_no_files() -> None:
    assert services.files(Settings(**{**COMPANY, "routes": [{"go": "agent:a"}], "queues": {}, "mailboxes": {}})) == {}
