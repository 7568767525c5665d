"""Where the Huffman codes of a JPEG frame end: those of a sequential process are counted, and not decoded.

Source: ITU-T T.81, annexes B (segments), C (tables) and F (sequential processes).
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Table B.1: what is counted; other frames, of which T.87 has SOF55 (JPEG-LS).
_SEQUENTIAL, _LOSSLESS = frozenset({0xFFC0, 0xFFC1}), 0xFFC3
_NOT_COUNTED: Final = frozenset({0xFFC2, 0xFFF7, *range(0xFFC5, 0xFFD0)}) - {0xFFC8, 0xFFCC}
_DHT, _EOI, _SOS, _DRI = 0xFFC4, 0xFFD9, 0xFFDA, 0xFFDD
# A marker that ends coded values is no stuffed byte, no restart and no fill byte (B.1.1.2, B.1.1.5).
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART: Final = re.compile(rb"\xff+[\xd0-\xd7]")
_BLOCK_SIDE, _BLOCK, _CODE_BITS, _BYTE_BITS = 8, 64, 16, 8
# What codes add to the count of a block: the code that ends the block; bits that are no code. The counts of a block
# that overflows lie between.
_END_OF_BLOCK, _NO_CODE = 128, 65
_SIXTEEN_ZEROS: Final = 0xF0
_FAR: Final = 255
# More than a code with its value has behind the end of the coded values.
_OVERRUN: Final = b"\xff" * 8

Counts = NDArray[np.uint8]
Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A Huffman table by the next 16 bits.

    Shapes: (65536,).
    """

    symbols: Counts
    lengths: Counts
    """of the codes, in bits; 0 where the bits are no code"""

    def differences(self) -> Counts:
        """Return the bits of a code and its difference.

        Bits that are no code lead far away, so that the count ends elsewhere.
        """
        sizes = np.where(self.symbols < _CODE_BITS, self.symbols, 0)
        return np.asarray(np.where(self.lengths > 0, self.lengths + sizes, _FAR), np.uint8)

    def coefficients(self) -> Counts:
        """Return the bits of a code and its coefficient (F.1.2.2)."""
        return np.asarray(self.lengths + (self.symbols & 15), np.uint8)

    def runs(self) -> Counts:
        """Return what a code adds to the count of a block."""
        counts = np.where((self.symbols & 15) > 0, (self.symbols >> 4) + 1, _NO_CODE)
        counts[self.symbols == _SIXTEEN_ZEROS] = 16
        counts[self.symbols == 0] = _END_OF_BLOCK
        counts[self.lengths == 0] = _NO_CODE
        return np.asarray(counts, np.uint8)


@dataclass(frozen=True, slots=True)
class Scan:
    """The coded values of a scan, and what they are to hold."""

    components: tuple[int, ...]
    """the index of each in the frame"""
    is_lossless: bool
    precision: int
    predictor: int
    point_transform: int
    """both of the lossless process"""
    tables: tuple[tuple[Table, Table | None], ...]
    """for the difference and the coefficients of each block of a unit (MCU); a lossless image has differences alone"""
    units: int
    restart_interval: int
    """in units; 0 without restarts"""
    values: bytes

    def parts(self) -> tuple[bytes, ...]:
        """Return the coded values between two restarts, without stuffed bytes; none where a restart is missing."""
        parts = [part.rstrip(b"\xff").replace(b"\xff\0", b"\xff") for part in _RESTART.split(self.values)]
        interval = self.restart_interval or self.units
        return tuple(parts) if interval and len(parts) == ceil(self.units / interval) else ()

    def ends_with_its_units(self) -> bool:
        """Return whether each part of the scan, between two restarts, ends where its last unit ends."""
        parts, interval = self.parts(), self.restart_interval or self.units
        if not parts:
            return False
        steps, start = self._steps(b"".join(part + _OVERRUN for part in parts)), 0
        for number, part in enumerate(parts):
            end = start + _BYTE_BITS * len(part)
            units = min(interval, self.units - number * interval)
            try:
                at = _end_of_units(steps, units, start)
            except IndexError:  # the values end before their pixels do
                return False
            if not 0 <= end - at < _BYTE_BITS:
                return False
            start = end + _BYTE_BITS * len(_OVERRUN)
        return True

    def _steps(self, values: bytes) -> tuple[tuple[bytes, bytes, bytes], ...]:
        """Return what each block of a unit says at each bit: steps of its difference and coefficients, and runs."""
        read = np.frombuffer(values + _OVERRUN, np.uint8).astype(np.uint32)
        words: Words = np.asarray(read[:-2] << 16 | read[1:-1] << 8 | read[2:], np.uint32)
        differences = {table: _at_each_bit(table.differences(), words) for table in {first for first, _ in self.tables}}
        coefficients: dict[Table | None, tuple[bytes, bytes]] = {}
        for table in {second for _, second in self.tables if second}:
            coefficients[table] = _at_each_bit(table.coefficients(), words), _at_each_bit(table.runs(), words)
        return tuple((differences[first], *coefficients[second]) for first, second in self.tables)


def _at_each_bit(table: Counts, words: Words) -> bytes:
    """Return what a table says at each bit of words that begin a byte apart."""
    found = [table.take((words >> (_BYTE_BITS - bit)) & 0xFFFF) for bit in range(_BYTE_BITS)]
    return np.stack(found, axis=1).tobytes()


def _end_of_units(steps: tuple[tuple[bytes, bytes, bytes], ...], units: int, start: int) -> int:
    """Return the bit behind so many units that begin at a bit; behind all values if bits are no code."""
    beyond, at = len(steps[0][0]), start
    for _ in range(units):
        for differences, coefficients, runs in steps:
            at += differences[at]
            count = 1
            while count < _BLOCK:
                count += runs[at]
                at += coefficients[at]
            if _BLOCK < count < _END_OF_BLOCK:
                return beyond
    return at


def scans(frame: bytes) -> Iterator[Scan]:
    """Yield the scans of a JPEG frame; none where its process is not counted.

    Raises: struct.error, LookupError or ValueError if a segment is damaged.
    """
    tables: dict[int, Table] = {}
    components, interval, offset = None, 0, 2
    while True:
        offset = _next_marker(frame, offset)
        (marker,) = struct.unpack_from(">H", frame, offset)
        if marker == _EOI or marker in _NOT_COUNTED:
            return
        (length,) = struct.unpack_from(">H", frame, offset + 2)
        segment = frame[offset + 4 : offset + 2 + length]
        offset += 2 + length
        if marker in _SEQUENTIAL or marker == _LOSSLESS:
            components = _components(segment, 1 if marker == _LOSSLESS else _BLOCK_SIDE)
        elif marker == _DHT:
            tables.update(_tables(segment))
        elif marker == _DRI:
            (interval,) = struct.unpack(">H", segment)
        elif marker == _SOS and components:
            end = _next_marker(frame, offset)
            yield _scan(segment, components, tables, interval, frame[offset:end])
            offset = end


def _next_marker(frame: bytes, offset: int) -> int:
    if marker := _MARKER.search(frame, offset):
        return marker.start()
    raise ValueError("a JPEG without its end")


@dataclass(frozen=True, slots=True)
class _Components:
    """The components of a frame."""

    precision: int
    block_side: int
    """in pixels; 1 of a lossless image"""
    rows: int
    columns: int
    blocks: Mapping[int, tuple[int, int]]
    """across and down of a unit, by the identifier of the component"""

    def units(self, identifiers: bytes) -> int:
        """Return the units of a scan of these components (A.2)."""
        across = max(pair[0] for pair in self.blocks.values())
        down = max(pair[1] for pair in self.blocks.values())
        columns, rows, side = self.columns, self.rows, self.block_side
        if len(identifiers) > 1:
            return ceil(columns / (across * side)) * ceil(rows / (down * side))
        own_across, own_down = self.blocks[identifiers[0]]
        return ceil(ceil(columns * own_across / across) / side) * ceil(ceil(rows * own_down / down) / side)


def _components(segment: bytes, block_side: int) -> _Components:
    precision, rows, columns = struct.unpack_from(">BHH", segment)
    blocks = {name: (size >> 4, size & 15) for name, size in zip(segment[6::3], segment[7::3], strict=True)}
    return _Components(precision, block_side, rows, columns, blocks)


def _tables(segment: bytes) -> Iterator[tuple[int, Table]]:
    """Yield the tables of a segment by class and number (B.2.4.2, C.2)."""
    while segment:
        numbers = segment[1:17]
        values = segment[17 : 17 + sum(numbers)]
        lengths = np.append(np.repeat(np.arange(1, 17), list(numbers)), 0)
        spans = 1 << (_CODE_BITS - lengths)
        spans[-1] = (1 << _CODE_BITS) - int(spans[:-1].sum())
        symbols = np.frombuffer(values + b"\0", np.uint8)
        yield segment[0], Table(np.repeat(symbols, spans), np.repeat(lengths, spans).astype(np.uint8))
        segment = segment[17 + len(values) :]


def _scan(segment: bytes, components: _Components, tables: Mapping[int, Table], interval: int, values: bytes) -> Scan:
    end = 1 + 2 * segment[0]
    identifiers, selectors = segment[1:end:2], segment[2:end:2]
    is_lossless, names = components.block_side == 1, [*components.blocks]
    blocks: list[tuple[Table, Table | None]] = []
    for name, selector in zip(identifiers, selectors, strict=True):
        across, down = components.blocks[name] if len(identifiers) > 1 else (1, 1)
        coefficients = None if is_lossless else tables[0x10 | selector & 15]
        blocks += [(tables[selector >> 4], coefficients)] * (across * down)
    return Scan(
        components=tuple(names.index(name) for name in identifiers),
        is_lossless=is_lossless,
        precision=components.precision,
        predictor=segment[end],
        point_transform=segment[end + 2] & 15,
        tables=tuple(blocks),
        units=components.units(identifiers),
        restart_interval=interval,
        values=values,
    )
