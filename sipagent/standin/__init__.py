"""A realtime voice server in xAI's wire or OpenAI's, for the desk without a key, the tests and the load.

`serve(StandinConfig(...))` is the whole way in. The stand-in never claims to be Grok: its model is named
`sipagent-standin-1`, and asked who it is, it says a scripted stand-in.
"""

from sipagent.standin.config import MODEL_NAME, Burst, Dialect, Mode, StandinConfig
from sipagent.standin.faults import Faults, parse_faults
from sipagent.standin.pattern import pattern
from sipagent.standin.server import StandinServer, serve

__all__ = [
    "MODEL_NAME",
    "Burst",
    "Dialect",
    "Faults",
    "Mode",
    "StandinConfig",
    "StandinServer",
    "parse_faults",
    "pattern",
    "serve",
]
