"""The switch's side of sipagent.toml as Asterisk's sections: trunks, their address lists, numbers, transports.

One code path for every preset: what differs between carriers is data (`config/presets.toml`). The result is a
mapping of file to text, relative to the rendered folder; who writes it is `conf`. Nothing of the configuration can
add a line or a section: each value passes `_value`, each name has been checked by `config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from sipagent import patterns
from sipagent.config import AsteriskSettings, Trunk
from sipagent.config.presets import presets
from sipagent.config.trunks import dialled, is_number, neighbours
from sipagent.errors import ConfigError

# Asterisk's own defaults give up for good after one refusal: a carrier's bad minute would be our outage.
_REGISTRATION = {
    "expiration": "300",
    "retry_interval": "30",
    "max_retries": "10000",
    "auth_rejection_permanent": "no",
    "forbidden_retry_interval": "300",
    "fatal_retry_interval": "300",
    "max_random_initial_delay": "2",  # s; 10 would keep callers away after each start
    "line": "yes",
}
_ANY_NUMBER = ("_[0-9*#+]!", "_[a-zA-Z].")  # no single letters: h, i, s, t are Asterisk's own
_SPECIAL_IN_PATTERNS = re.compile(r"[xXnNzZ.!]")
_USER_UNRESERVED = "-_.!~*'()&=+$,?/"  # RFC 3261, 25.1
# AEAD only: TLS 1.0 and 1.1 have none of them.
_TLS_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384,ECDHE-RSA-AES256-GCM-SHA384,"
    "ECDHE-ECDSA-AES128-GCM-SHA256,ECDHE-RSA-AES128-GCM-SHA256"
)

Options = Mapping[str, str]


def files(asterisk: AsteriskSettings, trunks: Mapping[str, Trunk]) -> dict[str, str]:
    """Everything that the trunks and transports need, as text by file name under Asterisk's `etc`."""
    out = {"transports.conf": transports(asterisk, trunks)}
    for name, trunk in trunks.items():
        out[f"trunks.d/{name}.conf"] = pjsip(name, trunk)
        out[f"dialplan.d/{name}.conf"] = dialplan(name, trunk, neighbours(name, trunks))
        if trunk.networks:
            out[f"acl.d/{name}.conf"] = acl(name, trunk)
    return out


def pjsip(name: str, trunk: Trunk) -> str:
    """A trunk's endpoint, aors, auth, identify and registration."""
    kind = trunk.auth.kind
    parts = [_head(name, trunk), _endpoint(name, trunk)]
    parts += [_contact_aor(f"{name}.{place}", trunk, host) for place, host in enumerate(trunk.hosts, 1)]
    if kind == "accept":
        parts.append(_registered_aor(name, trunk))
    if kind != "none":
        login = {"auth_type": "digest", "username": trunk.auth.user or name}
        login["password"] = trunk.auth.password.get_secret_value()
        parts.append(_section(f"{name}.auth", "auth", login))
    if trunk.networks and kind != "accept":
        match = {"endpoint": name, "match": ",".join(trunk.networks), "srv_lookups": "no"}
        parts.append(_section(f"{name}.identify", "identify", match))
    if kind == "register":
        parts.append(_registration(name, trunk))
    return "\n".join(parts)


def acl(name: str, trunk: Trunk) -> str:
    """Where it may come from, enforced also for who proves himself by password or registration."""
    permit = "".join(f"permit = {network}\n" for network in trunk.networks)
    return f"[{name}]\ndeny = 0.0.0.0/0.0.0.0\ndeny = ::/0\n{permit}"


def dialplan(name: str, trunk: Trunk, others: Iterable[str] = ()) -> str:
    """The numbers that may be dialled in by it; everything else is 404.

    `others` are trunks of the same networks: a call of theirs may come in here, and is counted as theirs.
    """
    sealed = trunk.srtp == "required"  # where speech may cross in clear as well, keys in clear give nothing away
    go = f"Gosub(trunk,s,1({name},{trunk.channels},${{EXTEN}}{',tls' if sealed else ''}))"
    includes = [f"numbers.{each}" for each in (name, *others)]
    echo = []
    if trunk.auth.kind == "accept":
        if sealed:  # it goes before what is included
            echo = [f"exten => 600,1,Gosub(by-tls,s,1({name}))", " same => n,Goto(echo,s,1)"]
        else:
            includes.append("echo-test")
    return "\n".join((
        f"[trunk.{name}]",
        *echo,
        *(f"include => {context}" for context in includes),
        "",
        f"[numbers.{name}]",
        *(f"exten => {exten},1,{go}" for text in dialled(trunk) for exten in extensions(text)),
        "",
    ))  # fmt: skip


def extensions(pattern: str) -> list[str]:
    """A pattern of numbers (`sipagent.patterns`) as extensions of Asterisk's dialplan."""
    if pattern == "*":
        return list(_ANY_NUMBER)
    if pattern.startswith("_") or is_number(pattern):
        return [pattern]
    if pattern.endswith("*"):
        return ["_" + _SPECIAL_IN_PATTERNS.sub(lambda found: f"[{found[0]}]", pattern[:-1]) + "!"]
    # A range is an alternation of digit classes: 4[0-4][0-9]{1} and the like.
    parts = patterns.compiled(pattern).pattern.split("|")
    return ["_" + re.sub(r"\[0-9\](?:\{(\d+)\})?", lambda found: "X" * int(found[1] or 1), part) for part in parts]


def transports(asterisk: AsteriskSettings, trunks: Mapping[str, Trunk]) -> str:
    """What transports need beyond those of pjsip.conf: TLS, browsers' WebSockets, the outside of a NAT."""
    names = ["transport-udp", "transport-tcp"]
    parts = []
    if asterisk.tls_port:
        host = f"[{asterisk.sip_address}]" if ":" in asterisk.sip_address else asterisk.sip_address
        tls = {
            "protocol": "tls",
            "bind": f"{host}:{asterisk.tls_port}",
            # "tlsv1_2" would be 1.2 alone, no method TLS 1.0 alone. This is any, and the ciphers leave 1.2 and 1.3.
            "method": "sslv23",
            "cipher": _TLS_CIPHERS,
            "cert_file": str(Path(asterisk.tls_certificate).absolute()),
            "priv_key_file": str(Path(asterisk.tls_key).absolute()),
            "ca_list_file": str(Path(asterisk.tls_ca).absolute()),
            "verify_server": "yes",
            "tcp_keepalive_enable": "yes",
        }
        parts.append(_section("transport-tls", "transport", tls))
        names.append("transport-tls")
    if any(trunk.transport == "ws" for trunk in trunks.values()):
        # The address is the HTTP server's own (http.conf): loopback, behind the proxy that speaks wss.
        parts.append(_section("transport-ws", "transport", {"protocol": "ws", "bind": "127.0.0.1"}))
    if asterisk.external_address:
        outside = [("external_signaling_address", asterisk.external_address)]
        outside.append(("external_media_address", asterisk.external_address))
        outside += [("local_net", network) for network in asterisk.local_networks]
        parts += [f"[{name}](+)\n" + "".join(f"{key} = {_value(value)}\n" for key, value in outside) for name in names]
    return "\n".join(["; Rendered by sipagent from [asterisk] of sipagent.toml.\n", *parts])


def _head(name: str, trunk: Trunk) -> str:
    preset = presets()[trunk.preset]
    return (
        f"; Trunk {name}: {preset.title} (preset {trunk.preset} of {preset.date}).\n"
        "; Rendered from sipagent.toml; what is changed here is lost.\n"
    )


def _endpoint(name: str, trunk: Trunk) -> str:
    kind = trunk.auth.kind
    options = {
        "context": f"trunk.{name}",
        "disallow": "all",
        "allow": ",".join(trunk.codecs),
        "aors": name if kind == "accept" else ",".join(f"{name}.{place}" for place, _ in enumerate(trunk.hosts, 1)),
        "100rel": _yes(trunk.prack),
        "rtp_symmetric": _yes(trunk.symmetric_rtp),
        "trust_id_inbound": _yes(trunk.caller_id.trust),
        "send_pai": _yes(trunk.caller_id.header == "pai"),
        "send_rpid": _yes(trunk.caller_id.header == "rpid"),
        # A function of the dialplan, run when the channel is made: calls in and out count, whoever makes them.
        "set_var": f"GROUP(trunk)={name}",
        **_ENCRYPTION[trunk.srtp],
        **_who(name, trunk),
        **presets()[trunk.preset].endpoint,
    }
    if trunk.networks:
        options["acl"] = name
    if trunk.accept_refer:
        options["allow_transfer"] = "yes"
    return _section(name, "", options, template="trunk-endpoint")


_ENCRYPTION: dict[str, Options] = {
    "off": {},
    "optional": {"media_encryption": "sdes", "media_encryption_optimistic": "yes"},
    "required": {"media_encryption": "sdes"},
    "dtls": {"webrtc": "yes"},
}


def _who(name: str, trunk: Trunk) -> Options:
    """How the far end is known and how we are known to it."""
    if trunk.auth.kind == "accept":
        # It comes by what it likes, so no transport of its own; behind its own NAT, so its contact is rewritten. Where
        # that is to be TLS, it is called by TLS or not at all: the keys of SDES stand in our INVITE.
        by = {"transport": "transport-tls"} if trunk.transport == "tls" else {}
        return {**by, "auth": f"{name}.auth", "identify_by": "username", "rewrite_contact": "yes"}
    options = {"transport": f"transport-{trunk.transport}"}
    if trunk.auth.kind in {"digest", "register"}:
        options["outbound_auth"] = f"{name}.auth"
    domain = trunk.from_domain or (_bare(trunk.hosts[0]) if "outbound_auth" in options else "")
    return {**options, **({"from_domain": domain} if domain else {})}


def _contact_aor(section: str, trunk: Trunk, host: str) -> str:
    options = {"contact": _uri("", host, trunk), "qualify_frequency": str(trunk.qualify), "qualify_timeout": "3.0"}
    return _section(section, "aor", options)


def _registered_aor(name: str, trunk: Trunk) -> str:
    options = {
        "max_contacts": "1",
        "remove_existing": "yes",
        "remove_unavailable": "yes",
        "qualify_frequency": str(trunk.qualify),
        **presets()[trunk.preset].aor,
    }
    return _section(name, "aor", options)


def _registration(name: str, trunk: Trunk) -> str:
    first = next((text for text in trunk.numbers if is_number(text)), "")
    options = {
        "server_uri": _uri("", trunk.hosts[0], trunk),
        "client_uri": _uri(trunk.auth.user, trunk.hosts[0], trunk),
        # Carriers that dial the registered contact then dial a number of ours.
        "contact_user": trunk.out(first).removeprefix(trunk.dial_prefix) if first else quote(trunk.auth.user, safe="+"),
        "outbound_auth": f"{name}.auth",
        "transport": f"transport-{trunk.transport}",
        **_REGISTRATION,
        "endpoint": name,
    }
    return _section(f"{name}.registration", "registration", options)


def _uri(user: str, host: str, trunk: Trunk) -> str:
    """Without `;transport=` a host name would be looked up for UDP."""
    at = f"{quote(user, safe=_USER_UNRESERVED)}@" if user else ""
    return f"sip:{at}{host}" + (f";transport={trunk.transport}" if trunk.transport != "udp" else "")


def _bare(host: str) -> str:
    return re.sub(r":\d+$", "", host)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _section(name: str, kind: str, options: Options, template: str = "") -> str:
    head = f"[{name}]({template})\n" if template else f"[{name}]\ntype = {kind}\n"
    return head + "".join(f"{key} = {_value(value)}\n" for key, value in options.items())


def _value(text: str) -> str:
    """A value as Asterisk's reader gives it back: a bare semicolon would begin a remark."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ConfigError("a value of the switch's configuration holds a control character")
    return text.replace(";", "\\;")
