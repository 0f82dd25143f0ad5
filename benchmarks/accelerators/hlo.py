"""Reads XLA's text of a compiled program: computations of instructions, shapes and layouts."""

import math
import re
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"(?P<type>[a-z][a-z0-9]*)\[(?P<sizes>[0-9,]*)\](?:\{(?P<layout>[^}]*)\})?")
_DIGITS = re.compile(r"\d+")
_NAME = re.compile(r"%([\w.\-]+)")


class Array(NamedTuple):
    type: str
    sizes: tuple[int, ...]
    order: tuple[int, ...]  # axes, the fastest varying first
    tile: tuple[int, ...]  # of the fastest axes, the fastest last; () without tiles
    space: int  # memory space: 0 is the main memory, the others are on the chip

    @property
    def itemsize(self) -> float:
        return _BITS[self.type] / 8 if self.type in _BITS else int(_DIGITS.search(self.type)[0]) / 8

    @property
    def bytes(self) -> float:
        """With what tiles pad."""
        sizes = [self.sizes[axis] for axis in self.order]
        for i, side in enumerate(reversed(self.tile)):
            if i < len(sizes):
                sizes[i] = math.ceil(sizes[i] / side) * side
        return math.prod(sizes) * self.itemsize

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)


class Instruction(NamedTuple):
    name: str
    arrays: tuple[Array, ...]  # the parts of a tuple in a row
    opcode: str
    operands: tuple[str, ...]
    text: str  # everything after the operands
    root: bool

    def attribute(self, name: str) -> str | None:
        """Such as ``calls`` or ``body``: a computation's name."""
        found = re.search(rf"\b{name}=%([\w.\-]+)", self.text)
        return found and found.group(1)

    @property
    def cycles(self) -> float | None:
        """The compiler's own estimate, where it makes one."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.text)
        return found and float(found.group(1))

    @property
    def op_name(self) -> str:
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found.group(1) if found else ""


class Program(NamedTuple):
    computations: dict[str, dict[str, Instruction]]
    entry: str
    frames: dict[
        str, tuple[str, ...]
    ]  # functions of our sources by stack_frame_id, innermost first

    def functions(self, instruction: Instruction) -> tuple[str, ...]:
        """Python functions in which an instruction was traced."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.text)
        return self.frames.get(found.group(1), ()) if found else ()


def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape, of a tuple's parts in a row."""
    found = []
    for match in _ARRAY.finditer(re.sub(r"/\*.*?\*/", "", shape)):
        sizes = tuple(int(s) for s in match["sizes"].split(",") if s)
        order, _, tiling = (match["layout"] or "").partition(":")
        order = tuple(int(a) for a in order.split(",") if a)
        tile = re.search(r"T\(([0-9,]+)\)", tiling)
        space = re.search(r"S\((\d+)\)", tiling)
        found.append(
            Array(
                match["type"],
                sizes,
                order or tuple(reversed(range(len(sizes)))),
                tuple(int(t) for t in tile.group(1).split(",")) if tile else (),
                int(space.group(1)) if space else 0,
            )
        )
    return tuple(found)


def parse(text: str) -> Program:
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", {}
    for line in text.splitlines():
        if line.startswith(("%", "ENTRY")) and line.rstrip().endswith("{"):
            name = _NAME.search(line).group(1)
            current = computations[name] = {}
            entry = name if line.startswith("ENTRY") else entry
        elif instruction := _instruction(line):
            current[instruction.name] = instruction
    return Program(computations, entry, _frames(text))


def _instruction(line: str) -> Instruction | None:
    match = re.match(r"\s+(ROOT )?%([\w.\-]+) = (.*)", line)
    if not match:
        return None
    root, name, rest = match.groups()
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    rest = rest[len(opcode) :]
    end = _closing(rest)
    operands = tuple(_NAME.findall(rest[:end]))
    if opcode in ("parameter", "constant"):
        operands = (rest[1 : end - 1],)
    return Instruction(name, arrays(shape), opcode, operands, rest[end:], bool(root))


def _closing(text: str) -> int:
    """Where the parenthesis that the text starts with is closed."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return i + 1
    raise ValueError(f"unbalanced: {text[:80]}")


def _frames(text: str) -> dict[str, tuple[str, ...]]:
    """The tables of stack frames, before the first computation."""
    functions = dict(re.findall(r'^(\d+) "([\w<>.\-]+)"$', _section(text, "FunctionNames"), re.M))
    locations = dict(
        re.findall(r"^(\d+) \{.*?function_name_id=(\d+)", _section(text, "FileLocations"), re.M)
    )
    pattern = r"^(\d+) \{file_location_id=(\d+) parent_frame_id=(\d+)"
    table = re.findall(pattern, _section(text, "StackFrames"), re.M)
    # Callers are counted from 1 more than frames are: a frame of caller 1 has none.
    frames = {frame: (at, str(int(up) - 1)) for frame, at, up in table}

    def chain(frame: str) -> tuple[str, ...]:
        names = []
        while frame in frames:
            at, up = frames[frame]
            names.append(functions.get(locations.get(at, ""), "?"))
            frame = up
        return tuple(names)

    return {frame: chain(frame) for frame in frames}


def _section(text: str, name: str) -> str:
    found = re.search(rf"^{name}\n(.*?)\n\n", text, re.M | re.S)
    return found.group(1) if found else ""
