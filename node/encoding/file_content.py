"""The bytes of a file, read where they are asked for.

A file that is mapped into memory ends the process (SIGBUS) where the disk cannot read it or another program cut it off.
"""

import os
from typing import Final

# Most headers of an image are within; the values behind it are stepped over.
_BLOCK_BYTES: Final = 1 << 13


class FileContent:
    """The content of an open file, as bytes: a part that the disk cannot read raises OSError, and costs no process."""

    __slots__ = ("_block", "_block_begin", "_block_end", "_descriptor", "_size")

    def __init__(self, descriptor: int) -> None:
        """Keep the descriptor, which the caller closes.

        Raises: OSError.
        """
        self._descriptor, self._size = descriptor, os.fstat(descriptor).st_size
        self._block, self._block_begin, self._block_end = b"", 0, 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        """Return the part between two offsets; less than asked where the file ends, or has become shorter.

        Raises: OSError.
        """
        begin: int = part.start or 0
        end: int = self._size if part.stop is None else part.stop
        if end <= begin:
            return b""
        if begin < self._block_begin or end > self._block_end:
            end = min(end, self._size)
            if end - begin > _BLOCK_BYTES:
                return os.pread(self._descriptor, end - begin, begin)
            self._block = os.pread(self._descriptor, _BLOCK_BYTES, begin)
            self._block_begin, self._block_end = begin, begin + len(self._block)
        return self._block[begin - self._block_begin : end - self._block_begin]
