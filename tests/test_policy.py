"""What only the whole file shows: `check` names file, line and key, and the mend."""

from pathlib import Path

import pytest

from sipagent.config import load
from sipagent.errors import ConfigError

BASE = """\
[agents.reception]
instructions = "Be kind."
"""


def told(tmp_path: Path, text: str) -> str:
    file = tmp_path / "sipagent.toml"
    file.write_text(BASE + text)
    with pytest.raises(ConfigError) as error:
        load(file)
    return str(error.value).replace(str(file), "sipagent.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[routes]]\ngo = "menu:main"\n', "sipagent.toml:4: routes.0.go: no menu 'main'; there is none"),
        ('[[routes]]\ngo = "agent:recepton"\n', "no agent 'recepton'; there is reception"),
        ('[[routes]]\ngo = "main"\n', 'a destination is written "kind:name"'),
        ('[[routes]]\ngo = "reject:please"\n', '"reject:" takes one of busy'),
        ('[[routes]]\ngo = "teleport:home"\n', "there is no step 'teleport'"),
        ('[[routes]]\ngo = "operator"\n', "set [call] operator"),
        (
            '[numbers]\n"1" = "reception"\n[control]\ndrain_to = "queue:slaes"\n[queues.sales]\nmembers = ["phone"]\n',
            "sipagent.toml:6: control.drain_to: no queue 'slaes'; there is sales",
        ),
        (
            '[numbers]\n"1" = "reception"\n[control]\ndrain_to = "agent:reception"\n',
            "sipagent.toml:6: control.drain_to: agent:reception ends with us: it takes queue:, dial:, voicemail:",
        ),
        (
            '[numbers]\n"1" = "reception"\n[control]\ndrain_to = "operator"\n[call]\noperator = "agent:reception"\n',
            "control.drain_to: agent:reception ends with us",
        ),
        ('[[routes]]\ngo = "back"\n', "for the keys of a menu only"),
        ('[[routes]]\ngo = "dial:401@pbx"\n', "no trunk 'pbx'; there is phone"),
        ('[[routes]]\ntrunk = "x"\ngo = "agent:reception"\n', "sipagent.toml:4: routes.0.trunk: no trunk 'x'"),
        ('[[routes]]\nhours = "!day"\ngo = "agent:reception"\n', "no hours 'day'"),
        ('[[routes]]\nto = "_4Q"\ngo = "agent:reception"\n', "'Q' has no place in an Asterisk pattern"),
        (
            '[[routes]]\nname = "all"\ngo = "agent:reception"\n\n[[routes]]\nto = "1"\ngo = "hangup"\n',
            "sipagent.toml:7: routes.1: is never reached: route all before it takes all of its calls",
        ),
        (
            """[[routes]]\ngo = "announcement:a"\n[announcements.a]\nprompt = "A"\nthen = "announcement:b"
[announcements.b]\nprompt = "B"\nthen = "announcement:a"\n""",
            "round for ever without the caller doing anything: announcement:a -> announcement:b -> announcement:a",
        ),
        (
            '[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = "M"\ngive_up = "menu:m"\nkeys = { "1" = "hangup" }\n',
            "menus.m.give_up: goes round for ever",
        ),
        (
            '[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = "M"\n[menus.m.keys]\n"1" = "hangup"\n"1" = "back"\n',
            "not TOML",
        ),
        (
            '[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = "M"\n[menus.m.keys]\n"1" = "menu:n"\n',
            "sipagent.toml:8: menus.m.keys.1: no menu 'n'; there is m",
        ),
        ('[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = "M"\nkeys = { "A" = "hangup" }\n', "keys are 0-9, * and #"),
        ('[[routes]]\ngo = "menu:M"\n[menus.M]\nprompt = "M"\nkeys = { "1" = "hangup" }\n', "menus.M"),
        (
            '[[routes]]\ngo = "announcement:a"\n[announcements.a]\nprompt = "Hello {nobody}"\n',
            "sipagent.toml:6: announcements.a.prompt: {nobody} is unknown; there is called",
        ),
        (
            '[[routes]]\ngo = "announcement:a"\n[announcements.a]\nprompt = "file:hello.wav"\n',
            "announcements.a.prompt: there is no recording",
        ),
        (
            '[[routes]]\ngo = "queue:q"\n[queues.q]\nmembers = ["401@pbx"]\n',
            "sipagent.toml:6: queues.q.members: no phone or trunk 'pbx'; there is phone",
        ),
        ('[[routes]]\ngo = "messages:m"\n[mailboxes.m]\n', "mailbox 'm' has no pin"),
        ('[[routes]]\ngo = "voicemail:m"\n[mailboxes.m]\npin = "12a4"\n', "a PIN is 4 to 10 digits"),
        ('[hours.h]\ntimezone = "UTC"\nweek = { mon = "25:00-26:00" }\n', "hours.h.week"),
        ("", "no call goes anywhere"),
        (
            '[[routes]]\ngo = "hangup"\n[probes.uk]\ntrunks = ["vonage"]\nnumber = "+442079460123"\n',
            "probes.uk.trunks.0: no trunk 'vonage'; there is phone",
        ),
        (
            '[[routes]]\ngo = "hangup"\n[tracing]\nendpoint = "http://example.com/v1/traces"\nheaders = { a = "x" }\n',
            "headers must not cross a network in clear",
        ),
        ('[[routes]]\ngo = "hangup"\n[tracing]\nheader = "Via"\n', "tracing.header"),
        ('[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = ""\nkeys = { "1" = "hangup" }\n', "a silence in a call"),
        ('[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = {}\nkeys = { "1" = "hangup" }\n', "a silence in a call"),
        (
            '[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = { english = "x" }\nkeys = { "1" = "hangup" }\n',
            "sipagent.toml:6: menus.m.prompt: 'english' is no language; they are named as en",
        ),
        (
            '[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = "M"\nkeys = { "1" = "language:fr" }\n',
            "nothing is written in the language 'fr'; there is en",
        ),
        (
            '[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = "M"\nkeys = { "_4X" = "back" }\nwords = { "_4X" = "x" }\n',
            "menus.m.words._4X: a pattern has no word",
        ),
        (
            '[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = "M"\nkeys = { "_X." = "dial:{digits}@phone" }\n',
            "callers could dial any number by '_X.'",
        ),
        (
            '[[routes]]\ngo = "collect:c"\n[collects.c]\nprompt = "P"\nvariable = "v"\nthen = "dial:{digits}@phone"\n',
            "callers could dial any number by 'then'",
        ),
        (
            '[[routes]]\ngo = "queue:q"\n[queues.q]\nmembers = ["phone"]\nkeys = { "_X." = "dial:{digits}@phone" }\n',
            "callers could dial any number by '_X.'",
        ),
        (
            """[call]\noperator = "menu:m"\n[[routes]]\ngo = "menu:m"\n[menus.m]\nprompt = "M"\ngive_up = "operator"
keys = { "1" = "hangup" }\n""",
            "menus.m.give_up: goes round for ever",
        ),
        ('[[routes]]\ngo = "dial:1&PJSIP/x@phone"\n', "'1&PJSIP/x' cannot be dialled"),
        ('[[routes]]\ngo = "dial:d"\n[dials.d]\nnumber = "1"\ntrunk = "pbx"\n', "dials.d.trunk: no trunk 'pbx'"),
        (
            '[[routes]]\ngo = "queue:q"\n[queues.q]\nmembers = ["phone"]\nthen = "queue:q"\n',
            "queues.q.then: a queue cannot be what follows it",
        ),
        ('[[routes]]\ngo = "hangup"\n[queues.general]\nmembers = ["phone"]\n', "Asterisk has a section of that name"),
        ('[[routes]]\ngo = "hangup"\n[queues.q]\nmembers = ["4 01@phone"]\n', "queues.q.members.0"),
        ('[[routes]]\nfrom_file = "vip.txt"\ngo = "hangup"\n', "sipagent.toml:4: routes.0.from_file: there is no file"),
        (
            '[[routes]]\ngo = "hangup"\n[hours.h]\ntimezone = "UTC"\nweek = {}\nics = "x.ics"\n',
            "hours.h.ics: there is no",
        ),
        (
            '[[routes]]\ngo = "hangup"\n[hours.h]\ntimezone = "UTC"\nweek = { mon = "9:00-12:00, 11:00-13:00" }\n',
            "overlap",
        ),
        (
            '[[routes]]\ngo = "hangup"\n[hours.h]\ntimezone = "UTC"\nweek = { mon = 9 }\n',
            'opening hours are written "09',
        ),
        ('[routes]\ngo = "hangup"\n', "sipagent.toml:3: routes: routes are written as tables in a list: [[routes]]"),
        ('[numbers]\n"1 00" = "reception"\n', "sipagent.toml:4: numbers.1 00: '1 00' is no number"),
        (
            '[[routes]]\nheaders = { "X-Dept" = "^(a+)+$" }\ngo = "hangup"\n',
            "sipagent.toml:4: routes.0.headers: '^(a+)+$': a repetition inside a repetition",
        ),
        (
            '[[routes]]\ngo = "collect:c"\n[collects.c]\nprompt = "C"\nvariable = "caller"\nthen = "hangup"\n',
            "collects.c.variable: 'caller' means something else",
        ),
        (
            '[[routes]]\nto = "400-499"\ngo = "hangup"\n[[routes]]\nto = "_4[0-4]X"\ngo = "agent:reception"\n',
            "sipagent.toml:6: routes.1: is never reached",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in told(tmp_path, text)


@pytest.mark.parametrize("number", ["+449098790123", "02079460123", "12345678", "*21*0049123#"])
def test_no_member_of_a_queue_is_outside(tmp_path: Path, number: str) -> None:
    """Asterisk rings members by itself, and the dial policy is not asked."""
    text = f"""[[routes]]\ngo = "queue:q"\n[queues.q]\nmembers = ["401@pbx", "reception@pbx", "{number}@pbx"]
[trunks.pbx]\npreset = "generic-ip"\nhosts = ["192.0.2.1"]\nregion = "GB"\n"""
    (line,) = told(tmp_path, text).splitlines()[-1:]
    assert f"sipagent.toml:6: queues.q.members: '{number}@pbx' leads outside" in line


@pytest.mark.parametrize(
    ("first", "second", "reached"),
    [
        # Patterns and a list are one or the other, so a list that only the second has brings it callers ...
        ('from = "+1*"', 'from = "+1212*"\nfrom_file = "vip.txt"', True),
        ('from = "+1*"', 'from_file = "vip.txt"', True),
        ('from = "+1*"\nfrom_file = "other.txt"', 'from = "+1212*"\nfrom_file = "vip.txt"', True),
        # ... and so do patterns that only the second has.
        ('from_file = "vip.txt"', 'from = "+1*"\nfrom_file = "vip.txt"', True),
        ('from_file = "vip.txt"', 'from = "+1*"', True),
        ('from = "+1*"\nfrom_file = "vip.txt"', "", True),
        ('from_file = "vip.txt"', 'from_file = "vip.txt"', False),
        ('from = "+1*"', 'from = "+1212*"', False),
        ('from = "+1*"\nfrom_file = "vip.txt"', 'from_file = "vip.txt"', False),
        ('from = "+1*"\nfrom_file = "vip.txt"', 'from = "+1212*"', False),
        ('from = "+1*"\nfrom_file = "vip.txt"', 'from = "+1212*"\nfrom_file = "vip.txt"', False),
        ("", 'from = "+1212*"\nfrom_file = "vip.txt"', False),
    ],
)
def test_which_callers_a_route_leaves_to_the_next(tmp_path: Path, first: str, second: str, *, reached: bool) -> None:
    for name in ("vip.txt", "other.txt"):
        (tmp_path / name).touch()
    text = f'[[routes]]\ngo = "hangup"\n{first}\n[[routes]]\ngo = "agent:reception"\n{second}\n'
    if reached:
        (tmp_path / "sipagent.toml").write_text(BASE + text)
        load(tmp_path / "sipagent.toml")
    else:
        assert "routes.1: is never reached" in told(tmp_path, text)


def test_a_pin_is_not_repeated(tmp_path: Path) -> None:
    assert "12a4" not in told(tmp_path, '[[routes]]\ngo = "voicemail:m"\n[mailboxes.m]\npin = "12a4"\n')


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = '[[routes]]\ngo = "menu:a"\n[[routes]]\nhours = "x"\ngo = "menu:b"\n'
    assert len(told(tmp_path, text).splitlines()) == 4  # two menus, the hours, the second route behind the first
