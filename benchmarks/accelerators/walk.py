"""Goes through a compiled program as a device would, and estimates what every step takes.

Loops count as often as they turn. Where the program does not tell, the caller does: by the Python
functions that the loop was traced in.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.accelerators.hlo import Array, Instruction, Program
from benchmarks.accelerators.targets import Target

_FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"),
    *("copy-done", "async-done", "slice-done", "opt-barrier", "partition-id", "replica-id"),
}
Trips = Callable[[tuple[str, ...]], int]
Values = dict[str, int | None]  # integers known while compiling, by instruction


class Step(NamedTuple):
    """An instruction that takes time, and how often."""

    instruction: Instruction
    times: int
    loops: int  # loops around it, without those that turn once or a fixed number of times
    seconds: float  # each time, like what follows
    read: float  # bytes of main memory
    written: float
    sync: bool  # whether the host waits for its result
    launch: bool
    gathered: float  # pieces that it picks by index
    functions: tuple[str, ...]


def steps(program: Program, target: Target, trips: Trips) -> list[Step]:
    found: list[Step] = []
    _walk(program, target, trips, program.entry, 1, 0, {}, found)
    return found


def _walk(program, target, trips, name, times, loops, values: Values, found) -> None:
    computation = program.computations[name]

    def add(instruction, seconds=0.0, read=0.0, written=0.0, sync=False, n=times, depth=loops):
        launch = instruction.opcode not in ("while", "conditional")
        gathered = _gathered(program, computation, instruction)
        functions = program.functions(instruction)
        found.append(
            Step(instruction, n, depth, seconds, read, written, sync, launch, gathered, functions)
        )

    values = dict(values)
    for instruction in computation.values():
        _note_value(instruction, values)
        opcode = instruction.opcode
        if opcode == "while":
            known = _turns(program, computation, instruction, values)
            inner = _inside(computation, instruction, values)
            body = instruction.attribute("body"), instruction.attribute("condition")
            fixed = known is not None
            turns = trips(program.functions(instruction)) if known is None else known
            if not fixed and target.sync:
                add(instruction, target.sync, sync=True, n=times * (turns + 1))
            for part, n in zip(body, (turns, turns + 1), strict=True):
                # A loop that turns a fixed number of times needs no condition to be computed.
                if part == body[0] or not fixed:
                    inside = loops + (not fixed and turns != 1)
                    _walk(program, target, trips, part, times * n, inside, inner, found)
        elif opcode == "conditional":
            if target.sync:
                add(instruction, target.sync, sync=True)
            branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.text)
            names = re.findall(r"%([\w.\-]+)", branches.group(1)) if branches else []
            for key in ("true_computation", "false_computation"):
                names += [branch] if (branch := instruction.attribute(key)) else []
            options = []
            for branch in names:  # the cheapest: what all others are for is the exception
                options.append([])
                _walk(program, target, trips, branch, times, loops, {}, options[-1])
            found += min(options, key=lambda option: sum(s.seconds * s.times for s in option))
        elif opcode in ("call", "async-start") and not instruction.text.startswith(", kind"):
            inner = instruction.attribute("to_apply") or instruction.attribute("calls")
            _walk(program, target, trips, inner, times, loops, {}, found)
        elif opcode not in _FREE:
            read, written = _traffic(program, computation, instruction, target)
            seconds = (read + written) / target.bandwidth
            if target.clock:
                seconds = max(seconds, (instruction.cycles or 0) / target.clock)
            else:
                flops = _flops(program, computation, instruction)
                seconds = target.launch + max(seconds, flops / target.flops)
            add(instruction, seconds, read, written)


def _note_value(instruction: Instruction, values: Values) -> None:
    if instruction.opcode == "constant" and re.fullmatch(r"-?\d+", instruction.operands[0]):
        values[instruction.name] = int(instruction.operands[0])
    elif instruction.opcode == "get-tuple-element":
        index = re.search(r"index=(\d+)", instruction.text).group(1)
        values[instruction.name] = values.get(f"{index} of parameter")
    elif instruction.opcode in ("copy", "bitcast", "copy-start", "copy-done"):
        values[instruction.name] = values.get(instruction.operands[0])


def _inside(computation, loop: Instruction, values: Values) -> Values:
    """What is known of the parts of the tuple that a loop carries, if they stay as they are."""
    start = computation.get(loop.operands[0])
    if start is None or start.opcode != "tuple":
        return {}
    return {f"{i} of parameter": values.get(name) for i, name in enumerate(start.operands)}


def _turns(program, computation, loop: Instruction, values: Values) -> int | None:
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text)
    if known:
        return int(known.group(1))
    condition = program.computations[loop.attribute("condition")]
    compare = next((i for i in condition.values() if i.root), None)
    inside = _inside(computation, loop, values)
    for instruction in condition.values():
        _note_value(instruction, inside)
    if compare is None or not compare.operands:
        return None
    # Fused or not, the last operand is the limit of a counter that starts at 0.
    return inside.get(compare.operands[-1])


def _traffic(program, computation, instruction, target) -> tuple[float, float]:
    """Bytes of main memory read and written; on the chip they are free."""
    operands = [computation[o] for o in instruction.operands if o in computation]
    called = None
    if instruction.opcode == "fusion":
        called = program.computations[instruction.attribute("calls")]
    read = 0.0
    for index, operand in enumerate(operands):
        for array in operand.arrays:
            if array.space:
                continue
            if called is not None and len(operand.arrays) == 1:
                read += min(_used(program, called, index, target), array.bytes)
            else:
                read += _sliced(instruction, index, array, target)
    out = [array for array in instruction.arrays if not array.space]
    if instruction.opcode == "copy-start":  # (destination, source, context)
        out = [array for array in instruction.arrays[:1] if not array.space]
    if "__cublas" in instruction.text:
        out = [array for array in out if array.type != "s8"]  # scratch
    if not out:
        return read, 0.0
    if called is not None:
        return read, _stored(program, called, target)
    if instruction.opcode in ("dynamic-update-slice", "scatter"):
        return read, _updated(computation, instruction, target)
    return read, sum(array.bytes for array in out)


def _sliced(user: Instruction, index: int, array: Array, target: Target) -> float:
    """Bytes of an operand that an instruction looks at."""
    if user.opcode in ("dynamic-update-slice", "scatter") and index == 0:
        return 0.0  # written in place
    if user.opcode in ("slice", "dynamic-slice") and index == 0:
        return _pieces(user.arrays[0].sizes, array, target)
    if user.opcode == "gather" and index == 0:
        out = user.arrays[0]
        run = array.itemsize * _window(user, "slice_sizes")
        return min(
            max(out.bytes, out.elements * array.itemsize / run * max(run, target.granule)),
            array.bytes,
        )
    return array.bytes


def _pieces(sizes: tuple[int, ...], array: Array, target: Target) -> float:
    """Bytes that a window of an array touches, for memory is read in granules."""
    run = array.itemsize
    for axis in array.order:
        run *= sizes[axis]
        if sizes[axis] < array.sizes[axis]:
            break
    part = array._replace(sizes=sizes)
    pieces = part.elements * array.itemsize / run
    return min(max(part.bytes, pieces * max(run, target.granule)), array.bytes)


def _updated(computation, update: Instruction, target: Target) -> float:
    """Bytes written by an update in place."""
    if update.opcode == "dynamic-update-slice":
        return _pieces(computation[update.operands[1]].arrays[0].sizes, update.arrays[0], target)
    values = computation[update.operands[2]].arrays[0]
    # Windows of single elements where an axis of length 1 varies fastest.
    fastest = update.arrays[0].order[0]
    inserted = re.search(r"inserted_window_dims=\{([\d,]*)\}", update.text)
    alone = inserted is not None and str(fastest) in inserted.group(1).split(",")
    return values.elements * max(values.itemsize, target.granule if alone else 0)


def _used(program, computation, index, target) -> float:
    """Bytes of a fusion's operand that it looks at."""
    parameter = next(
        i for i in computation.values() if i.opcode == "parameter" and i.operands == (str(index),)
    )
    return _used_from(program, computation, parameter, target)


def _used_from(program, computation, value: Instruction, target) -> float:
    total = 0.0
    for user in computation.values():
        for position, operand in enumerate(user.operands):
            if operand != value.name or user.opcode == "parameter":
                continue
            if user.opcode == "bitcast":
                total += _used_from(program, computation, user, target)
            elif user.opcode == "fusion":
                inner = program.computations[user.attribute("calls")]
                total += _used(program, inner, position, target)
            elif user.opcode != "tuple":
                total += _sliced(user, position, value.arrays[0], target)
    return min(total, sum(a.bytes for a in value.arrays))


def _stored(program, computation, target: Target, name: str | None = None) -> float:
    """Bytes that a fusion writes."""
    root = computation[name] if name else next(i for i in computation.values() if i.root)
    if root.opcode == "tuple":
        return sum(_stored(program, computation, target, part) for part in root.operands)
    if root.opcode == "bitcast":
        return _stored(program, computation, target, root.operands[0])
    if root.opcode == "fusion":
        return _stored(program, program.computations[root.attribute("calls")], target)
    if root.opcode in ("dynamic-update-slice", "scatter"):
        return _updated(computation, root, target)
    return sum(array.bytes for array in root.arrays if not array.space)


def _called(program, computation, instruction):
    """The instruction, or what it fuses, with the computation that each stands in."""
    if instruction.opcode != "fusion":
        yield computation, instruction
        return
    inner = program.computations[instruction.attribute("calls")]
    for part in inner.values():
        yield from _called(program, inner, part)


def _flops(program, computation, instruction) -> float:
    """Of matrix products, which alone can take longer than their memory traffic."""
    total = 0.0
    for place, part in _called(program, computation, instruction):
        pattern = r'lhs_contracting_dim(?:ension)?s"?[=:][\[{]([\d,"]*)'
        found = re.search(pattern, part.text)
        if found and part.operands and part.operands[0] in place:
            left = place[part.operands[0]].arrays[0]
            axes = [int(a) for a in re.findall(r"\d+", found.group(1))]
            total += 2 * part.arrays[0].elements * math.prod(left.sizes[a] for a in axes)
    return total


def _window(instruction: Instruction, name: str) -> int:
    found = re.search(rf"{name}=\{{([\d,]*)\}}", instruction.text)
    return math.prod(int(s) for s in found.group(1).split(",") if s) if found else 1


def _gathered(program, computation, instruction) -> float:
    most = 0.0
    for place, part in _called(program, computation, instruction):
        if part.opcode == "gather":
            most = max(most, part.arrays[0].elements / _window(part, "slice_sizes"))
        elif part.opcode == "scatter":
            # One update for every index, whatever the window.
            most = max(most, place[part.operands[1]].arrays[0].sizes[0])
    return most
