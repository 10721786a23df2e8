"""sipagent: a SIP softswitch agent. Asterisk in front, a realtime voice model behind."""

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader

__version__ = "0.1.0"


def _sources_only(folder: str) -> FileFinder:
    """Finds the modules of this package as Python, although compiled ones lie beside them (see `native`)."""
    if not folder.startswith(__path__[0]):
        raise ImportError
    return FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))


if os.environ.get("SIPAGENT_PURE_PYTHON"):
    sys.path_hooks.insert(0, _sources_only)
    sys.path_importer_cache.pop(__path__[0], None)
