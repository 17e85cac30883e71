"""What one run of a compiled program costs a device: products, memory traffic, network traffic, time, part by part."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np

from nerfgen.tpu.chips import Chip
from nerfgen.tpu.program import ArrayType, Computation, Instruction, Program

OTHER = "other"
COLLECTIVES = "collectives"

# Instructions that move nothing: their results are their operands, or are there already.
_FREE = {
    *(
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
    ),
    *(
        "copy-done",
        "slice-done",
        "all-reduce-done",
        "all-gather-done",
        "collective-permute-done",
        "async-done",
    ),
    *("async-update", "opt-barrier", "add-dependency"),
}
# Custom calls that only tell the compiler something.
_FREE_CALLS = {"AssumeGatherIndicesInBound", "AsyncCollectiveStart", "AsyncCollectiveDone", "ConcatBitcast"}
# Instructions that read some elements of their first operand, and those that replace some of it in place.
_READS_PART = {"slice", "dynamic-slice", "gather", "slice-start"}
_REPLACES_PART = {"dynamic-update-slice", "scatter"}
# Bytes that a device sends for a byte of the result (of the operand, for the last two), on a ring of n devices.
_SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
    "reduce-scatter": lambda n: n - 1.0,
}


@dataclass(frozen=True)
class Cost:
    """What an instruction, a part of a program or a whole program costs a device.

    Attributes:
        flops: additions and multiplications of matrix products and convolutions.
        traffic: bytes read from the device's memory and written to it, with their padding.
        sent: bytes sent to other devices.
        rows: rows that are read or written one by one, by gathers and scatters.
        seconds: the time at the chip's published rates: of each instruction the longest of products, memory and
            network, with nothing overlapped.
        estimated_seconds: the time by the compiler's own estimates, and as above where it has none.
    """

    flops: float = 0.0
    traffic: float = 0.0
    sent: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    estimated_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __mul__(self, times: float) -> Cost:
        return Cost(*(times * getattr(self, each.name) for each in fields(self)))


def program_costs(
    program: Program,
    chip: Chip,
    parts: Mapping[str, str],
    *,
    devices: int = 1,
    branch_fraction: float = 1.0,
) -> dict[str, Cost]:
    """The cost of each part of a program, with loops multiplied out.

    Args:
        parts: the part of each scope (:func:`jax.named_scope`); an instruction belongs to that of the innermost scope
            that has one. Exchange between devices is the part ``collectives``, and all else ``other``.
        devices: that the program runs on.
        branch_fraction: of the runs of the program that take the costlier branch of a conditional.
    """
    return _Counter(program, chip, parts, devices, branch_fraction).total(program.entry)


class _Counter:
    """Adds up the instructions of a program."""

    def __init__(
        self, program: Program, chip: Chip, parts: Mapping[str, str], devices: int, branch_fraction: float
    ) -> None:
        self._program, self._chip, self._parts = program, chip, parts
        self._devices, self._branch_fraction = devices, branch_fraction

    def total(self, name: str, inherited: str = OTHER) -> dict[str, Cost]:
        """The costs of a computation by part; instructions without a place belong to ``inherited``."""
        computation = self._program.computations[name]
        part_of = self._parts_of(computation, inherited)
        total: dict[str, Cost] = {}
        for instruction in computation.values():
            part = part_of[instruction.name]
            for owner, cost in self._instruction(instruction, computation, part).items():
                total[owner] = total.get(owner, Cost()) + cost
        return total

    def _instruction(
        self, instruction: Instruction, computation: Computation, part: str
    ) -> Mapping[str, Cost]:
        called = instruction.called
        if instruction.opcode == "while":
            body = self.total(instruction.attribute(r"\bbody=%?([\w.-]+)"), part)
            return _times(body, _trip_count(instruction, self._program))
        if instruction.opcode == "conditional":
            branches = [self.total(name, part) for name in called]
            branches.sort(key=lambda costs: sum(cost.seconds for cost in costs.values()))
            return _sum(
                _times(branches[-1], self._branch_fraction), _times(branches[0], 1 - self._branch_fraction)
            )
        if instruction.opcode == "call":
            return self.total(called[0], part)
        if instruction.opcode == "async-start" and called:
            return self.total(called[0], part)
        if instruction.opcode in _FREE or instruction.attribute(r'custom_call_target="(\w+)"') in _FREE_CALLS:
            return {}
        if instruction.opcode != "fusion":
            return {part: self._kernel(instruction, computation)}
        # Collectives that the compiler fuses run while others compute.
        fused = self._program.computations[called[0]]
        sent = sum(self._sent(each, fused) for each in fused.values())
        own = {part: self._kernel(instruction, computation)}
        return _sum(own, {COLLECTIVES: self._cost(sent=sent)}) if sent else own

    def _kernel(self, instruction: Instruction, computation: Computation) -> Cost:
        """The cost of an instruction that the device runs as one."""
        flops, rows = 0.0, 0.0
        for each, owner in _inner(instruction, computation, self._program):
            flops += _flops(each, owner)
            rows += _rows(each, owner)
        traffic = sum(_traffic(instruction, computation, self._program))
        cycles = int(instruction.attribute(r'"estimated_cycles":"(\d+)"') or 0)
        return self._cost(flops, traffic, self._sent(instruction, computation), rows, cycles)

    def _cost(
        self, flops: float = 0.0, traffic: float = 0.0, sent: float = 0.0, rows: float = 0.0, cycles: int = 0
    ) -> Cost:
        chip = self._chip
        seconds = max(flops / chip.flops, traffic / chip.bandwidth, sent / chip.link_bandwidth)
        return Cost(flops, traffic, sent, rows, seconds, cycles / chip.clock or seconds)

    def _sent(self, instruction: Instruction, computation: Computation) -> float:
        """Bytes that a collective sends; 0 for other instructions, and where one only goes on."""
        factor = _SENT.get(instruction.opcode.removesuffix("-start"))
        if factor is None or self._devices == 1:
            return 0.0
        begins = any('"AsyncCollectiveStart"' in each.attributes for each in computation.values())
        if "chain_id=" in instruction.attributes and not begins:
            return 0.0
        results = instruction.results
        if instruction.opcode.endswith("-start"):
            results = (_started(instruction, computation),)
        return factor(self._devices) * sum(array.size for array in results)

    def _parts_of(self, computation: Computation, inherited: str) -> dict[str, str]:
        """The part of every instruction; one without a place is of the part of what it reads, or of its reader."""
        found: dict[str, str] = {}
        for name, instruction in computation.items():
            found[name] = self._own_part(instruction, inherited) or next(
                (found[operand] for operand in instruction.operands if found.get(operand, "")), ""
            )
        for name in reversed(computation):
            users = computation.users[name]
            found[name] = found[name] or next((found[user.name] for user in users if found[user.name]), "")
        return {name: part or inherited for name, part in found.items()}

    def _own_part(self, instruction: Instruction, inherited: str) -> str:
        """The part of the innermost scope that has one, else the inherited one; empty without a place."""
        if instruction.opcode.removesuffix("-start").removesuffix("-done") in _SENT:
            return COLLECTIVES
        scopes = instruction.scopes
        known = (self._parts[word] for word in reversed(scopes) if word in self._parts)
        return next(known, inherited if scopes else "")


def _times(costs: Mapping[str, Cost], times: float) -> dict[str, Cost]:
    return {part: cost * times for part, cost in costs.items()}


def _sum(first: Mapping[str, Cost], second: Mapping[str, Cost]) -> dict[str, Cost]:
    return {part: first.get(part, Cost()) + second.get(part, Cost()) for part in {**first, **second}}


def _trip_count(loop: Instruction, program: Program) -> int:
    """How often a loop runs: its count where the compiler knows it, else the bound of a counter from 0.

    Raises:
        ValueError: neither is known.
    """
    if known := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"\}'):
        return int(known)
    condition = program.computations[loop.attribute(r"\bcondition=%?([\w.-]+)")]
    test = condition.root
    if test.opcode == "fusion":
        (bound,) = (each for each in condition.values() if each.opcode == "constant")
    else:
        (bound,) = (condition[name] for name in test.operands if condition[name].opcode == "constant")
    return int(json.loads(bound.attributes.partition(")")[0]))


def _inner(
    instruction: Instruction, computation: Computation, program: Program
) -> Iterator[tuple[Instruction, Computation]]:
    """The instructions of a fusion, of fusions within it too; else the instruction itself."""
    if instruction.opcode != "fusion":
        yield instruction, computation
        return
    fused = program.computations[instruction.called[0]]
    for each in fused.values():
        yield from _inner(each, fused, program)


def _traffic(instruction: Instruction, computation: Computation, program: Program) -> Iterator[float]:
    """Bytes of each array that an instruction reads from the main memory and writes to it."""
    results = instruction.results
    if instruction.opcode.endswith("-start"):
        results = (_started(instruction, computation),)
    for place, name in enumerate(instruction.operands):
        for array in computation[name].results:
            if array.space == 0:
                yield _read(instruction, place, array, computation, program)
    replaced = list(_replaced(instruction, computation, program))
    for place, array in enumerate(results):
        if array.space == 0:
            yield replaced[place] if place < len(replaced) and replaced[place] else array.stored


def _read(
    instruction: Instruction, place: int, array: ArrayType, computation: Computation, program: Program
) -> float:
    """Bytes that an instruction reads of its operand at ``place``."""
    if instruction.opcode == "fusion":
        fused = program.computations[instruction.called[0]]
        readers = _readers(fused.parameters[place], fused)
        if all(_touches_part(reader, parameter, fused) for reader, parameter in readers):
            each = (
                _read(reader, reader.operands.index(parameter), array, fused, program)
                for reader, parameter in readers
            )
            return min(array.stored, sum(each))
        return array.stored
    if place == 0 and instruction.opcode in _READS_PART:
        return min(array.stored, _started(instruction, computation).stored)
    if place == 0 and instruction.opcode in _REPLACES_PART:
        # What is replaced by a sum is read before.
        adds = instruction.opcode == "scatter"
        return min(array.stored, _update(instruction, computation).stored) if adds else 0
    return array.stored


def _started(instruction: Instruction, computation: Computation) -> ArrayType:
    """The first result of an instruction; of one that only starts, what it will have written when it is done."""
    if instruction.opcode == "copy-start" or not instruction.opcode.endswith("-start"):
        return instruction.results[0]
    # The operands come first.
    return instruction.results[sum(len(computation[name].results) for name in instruction.operands)]


def _touches_part(reader: Instruction, name: str, fused: Computation) -> bool:
    return reader.opcode in _READS_PART | _REPLACES_PART and reader.operands.index(name) == 0


def _readers(instruction: Instruction, computation: Computation) -> list[tuple[Instruction, str]]:
    """The instructions that read another one, directly or renamed, and the name that they read."""
    found = []
    for user in computation.users[instruction.name]:
        if user.opcode == "bitcast":
            found += _readers(user, computation)
        else:
            found.append((user, instruction.name))
    return found


def _replaced(instruction: Instruction, computation: Computation, program: Program) -> Iterator[float]:
    """For each result that is an operand with some elements replaced: bytes written; 0 for other results."""
    if instruction.opcode in _REPLACES_PART:
        yield _update(instruction, computation).stored
    elif instruction.opcode == "fusion":
        fused = program.computations[instruction.called[0]]
        roots = (
            [fused[name] for name in fused.root.operands] if fused.root.opcode == "tuple" else [fused.root]
        )
        for root in roots:
            while root.opcode == "bitcast":
                root = fused[root.operands[0]]
            yield _update(root, fused).stored if root.opcode in _REPLACES_PART else 0


def _update(instruction: Instruction, computation: Computation) -> ArrayType:
    """What a ``dynamic-update-slice`` or a ``scatter`` writes."""
    place = 1 if instruction.opcode == "dynamic-update-slice" else 2
    return computation[instruction.operands[place]].results[0]


def _rows(instruction: Instruction, computation: Computation) -> float:
    """The rows that a gather or a scatter moves one by one."""
    if instruction.opcode == "gather":
        sizes = instruction.attribute(r"slice_sizes=\{([\d,]*)\}")
        return math.prod(instruction.results[0].shape) / math.prod(map(int, sizes.split(",")))
    if instruction.opcode == "scatter":
        update = _update(instruction, computation)
        window = instruction.attribute(r"update_window_dims=\{([\d,]*)\}")
        own = math.prod(update.shape[int(place)] for place in window.split(",") if place)
        return math.prod(update.shape) / own
    return 0.0


def _flops(instruction: Instruction, computation: Computation) -> float:
    """Twice the number of products of a matrix product or a convolution; 0 for all else."""
    if instruction.opcode == "dot":
        left = computation[instruction.operands[0]].results[0].shape
        contracted = instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}")
        inner = math.prod(left[int(place)] for place in contracted.split(",") if place)
        return 2.0 * math.prod(instruction.results[0].shape) * inner
    if instruction.opcode == "convolution":
        return _convolution_flops(instruction, computation)
    return 0.0


def _convolution_flops(instruction: Instruction, computation: Computation) -> float:
    """Products of a convolution at positions that lie on the image, not on its padding or between its elements."""
    image, kernel = (computation[name].results[0].shape for name in instruction.operands[:2])
    left, right, out = instruction.attribute(r"dim_labels=([\w>-]+)").replace("->", "_").split("_")
    result = instruction.results[0].shape
    window = {
        name: values.split("x")
        for name, values in (
            each.split("=") for each in instruction.attribute(r"window=\{([^}]*)\}").split() if "=" in each
        )
    }
    batch_groups = int(instruction.attribute(r"batch_group_count=(\d+)") or 1)
    flops = 2.0 * result[out.index("b")] * result[out.index("f")] * kernel[right.index("i")] / batch_groups
    for place, label in enumerate(sorted(filter(str.isdigit, out))):
        low = int(window["pad"][place].split("_")[0]) if "pad" in window else 0
        stride, spread, step = (
            int(window[name][place]) if name in window else 1
            for name in ("stride", "lhs_dilate", "rhs_dilate")
        )
        at = (
            np.arange(result[out.index(label)])[:, None] * stride
            + np.arange(kernel[right.index(label)])[None] * step
            - low
        )
        inside = (at >= 0) & (at <= (image[left.index(label)] - 1) * spread) & (at % spread == 0)
        flops *= int(inside.sum())
    return flops
