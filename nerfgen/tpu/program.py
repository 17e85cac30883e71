"""A compiled program as its compiler prints it: computations of instructions on arrays with layouts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16}
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) .*-> .*\{$")
_NAME = re.compile(r"%([\w.-]+)")


@dataclass(frozen=True)
class ArrayType:
    """An array of a program.

    Attributes:
        dtype: the compiler's name, such as ``f32``.
        shape: sizes of its dimensions.
        order: dimensions from the one whose elements are neighbours to the slowest.
        tile: sizes of the tiles that it is stored in, of the last dimensions in ``order`` reversed; it is padded to
            them.
        space: memory space; 0 is the main memory of the device.
    """

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, ...]
    space: int

    @property
    def size(self) -> int:
        """Bytes, without padding."""
        return math.prod(self.shape) * self._bits // 8

    @property
    def stored(self) -> int:
        """Bytes in memory, with the padding to tiles."""
        sizes = [self.shape[dimension] for dimension in reversed(self.order)] or list(self.shape)
        for place, step in zip(range(len(sizes) - 1, -1, -1), reversed(self.tile), strict=False):
            sizes[place] = -(-sizes[place] // step) * step
        return math.prod(sizes) * self._bits // 8

    @property
    def _bits(self) -> int:
        digits = re.sub(r"\D.*", "", re.sub(r"^\D+", "", self.dtype))
        return _BITS.get(self.dtype, int(digits or 0))


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: unique in its computation.
        opcode: such as ``fusion``.
        results: its arrays, those of a tuple one by one.
        operands: names of the instructions whose results it reads.
        attributes: all else, as printed.
        is_root: whether it gives the computation's result.
    """

    name: str
    opcode: str
    results: tuple[ArrayType, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    def attribute(self, pattern: str) -> str:
        """The group of a regular expression in the attributes; empty where there is none."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else ""

    @property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that it runs."""
        single = re.findall(
            r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)",
            self.attributes,
        )
        several = re.search(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}", self.attributes)
        return (*single, *(_NAME.findall(several[1]) if several else ()))

    @property
    def scopes(self) -> tuple[str, ...]:
        """The words of its place in the program that was compiled, from the outermost scope in."""
        return tuple(re.findall(r"[\w-]+", self.attribute(r'op_name="([^"]*)"')))


class Computation(dict[str, Instruction]):
    """Instructions by name, in the order in which they run."""

    @cached_property
    def root(self) -> Instruction:
        """The instruction that gives the result."""
        return next(instruction for instruction in self.values() if instruction.is_root)

    @cached_property
    def parameters(self) -> list[Instruction]:
        """The parameters, in order."""
        found = [each for each in self.values() if each.opcode == "parameter"]
        return sorted(found, key=lambda each: int(each.attributes.partition(")")[0] or 0))

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that read each one."""
        readers: dict[str, list[Instruction]] = {name: [] for name in self}
        for instruction in self.values():
            for operand in dict.fromkeys(instruction.operands):
                readers[operand].append(instruction)
        return readers


class Program:
    """A compiled program.

    Args:
        text: what ``Compiled.as_text`` of JAX gives.
    """

    def __init__(self, text: str) -> None:
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        name, computation = "", Computation()
        for line in text.splitlines():
            if header := _COMPUTATION.match(line):
                name, computation = header[2], Computation()
                self.entry = name if header[1] else self.entry
            elif line.startswith("}"):
                self.computations[name] = computation
            elif (start := _INSTRUCTION.match(line)) and name:
                computation[start[2]] = _instruction(line[start.end() :], start[2], is_root=bool(start[1]))


def _instruction(text: str, name: str, *, is_root: bool) -> Instruction:
    """An instruction from what follows its name: type, opcode, operands in parentheses, attributes."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    types, rest = text[:end], text[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    close = _closing("(" + rest, 0) - 1
    inside, after = rest[:close], rest[close + 1 :]
    # A parameter's number and a constant's value stand where others have operands.
    attributes = f"{inside}){after}" if opcode in ("parameter", "constant") else after
    operands = tuple(_NAME.findall(inside)) if opcode not in ("parameter", "constant") else ()
    return Instruction(name, opcode, _arrays(types), operands, attributes, is_root)


def _closing(text: str, start: int) -> int:
    """The place of the parenthesis that closes the one at ``start``."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ValueError(f"no closing parenthesis: {text[:80]}")


def _arrays(text: str) -> tuple[ArrayType, ...]:
    found = []
    for dtype, sizes, layout in _ARRAY.findall(text):
        shape = tuple(int(size) for size in sizes.split(",") if size)
        order, _, storage = layout.partition(":")
        tile = re.search(r"T\(([\d,]+)\)", storage)
        space = re.search(r"S\((\d+)\)", storage)
        found.append(
            ArrayType(
                dtype,
                shape,
                tuple(int(place) for place in order.split(",") if place),
                tuple(int(size) for size in tile[1].split(",")) if tile else (),
                int(space[1]) if space else 0,
            )
        )
    return tuple(found)
