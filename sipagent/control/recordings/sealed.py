"""Encryption at rest: AES-256-GCM, piece by piece, so that no file has to fit into memory or be read to its end.

Each file has a key of its own, derived (HKDF-SHA256) from the operator's and 16 random bytes in its head. Each piece is
sealed with a random nonce, and its place and whether it is the last are authenticated with it: pieces that were
swapped, left out or cut off are noticed. A kept file is::

    "SIPSEAL1" | salt, 16 bytes | check, 8 bytes | pieces of 65536 bytes, the last one of what is left
    a piece: nonce, 12 bytes | ciphertext | tag, 16 bytes      AAD: its number, 8 bytes, big endian | last, 1 byte

`check` tells another key from a damaged file. Any language's standard tools read it in twenty lines; ours are these.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sipagent.errors import RecordingUnreadable

MAGIC = b"SIPSEAL1"
PIECE = 1 << 16
_SALT_BYTES, _CHECK_BYTES, _NONCE_BYTES, _TAG_BYTES = 16, 8, 12, 16
HEAD_BYTES = len(MAGIC) + _SALT_BYTES + _CHECK_BYTES
_PLACE = struct.Struct(">Q?")


class Seal:
    """One file's key."""

    def __init__(self, key: bytes, salt: bytes | None = None) -> None:
        """`key` is the operator's 32 bytes; a new file gets a salt of its own."""
        salt = salt or os.urandom(_SALT_BYTES)
        derived = HKDF(SHA256(), 32 + _CHECK_BYTES, salt, b"sipagent recording").derive(key)
        self._cipher = AESGCM(derived[:32])
        self.head = MAGIC + salt + derived[32:]
        """What the file begins with."""

    @classmethod
    def of(cls, head: bytes, key: bytes) -> Self:
        """The seal of a file that begins so.

        Raises:
            RecordingUnreadable: there is no key, it is another one, or this is no sealed file.
        """
        if len(head) != HEAD_BYTES or not head.startswith(MAGIC):
            raise RecordingUnreadable("this is no encrypted recording")
        if not key:
            raise RecordingUnreadable("it is encrypted, and there is no recording.key")
        seal = cls(key, head[len(MAGIC) :][:_SALT_BYTES])
        if seal.head != head:
            raise RecordingUnreadable("it is encrypted with another key than recording.key")
        return seal

    def close(self, number: int, data: bytes, *, last: bool = False) -> bytes:
        """One piece, encrypted."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, _PLACE.pack(number, last))

    def open(self, number: int, piece: bytes, *, last: bool = False) -> bytes:
        """One piece, decrypted; RecordingUnreadable when it is damaged or not in its place."""
        try:
            return self._cipher.decrypt(piece[:_NONCE_BYTES], piece[_NONCE_BYTES:], _PLACE.pack(number, last))
        except (InvalidTag, ValueError):
            raise RecordingUnreadable(f"piece {number} is damaged, or not the one that was written there") from None


def sealed(seal: Seal, data: Iterable[bytes]) -> Iterator[bytes]:
    """A file's bytes, encrypted; `data` may come in any sizes."""
    yield seal.head
    number, rest = 0, bytearray()
    for part in data:
        rest += part
        while len(rest) > PIECE:
            yield seal.close(number, bytes(rest[:PIECE]))
            del rest[:PIECE]
            number += 1
    yield seal.close(number, bytes(rest), last=True)


def opened(file: BinaryIO, key: bytes) -> Iterator[bytes]:
    """A sealed file's bytes, decrypted, each piece once it has proved to be the right one."""
    seal = Seal.of(file.read(HEAD_BYTES), key)
    size = _NONCE_BYTES + PIECE + _TAG_BYTES
    number, piece = 0, file.read(size)
    while following := file.read(size):
        yield seal.open(number, piece)
        number, piece = number + 1, following
    yield seal.open(number, piece, last=True)
