#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""What a background snapshot costs a guest that writes to all its memory meanwhile.

Usage: bench.py QEMU DIRECTORY [SNAPSHOTS]

The guest is that of sweep.py, with two CPUs. Snapshots with userfaultfd and with pgprotect
take turns, and each comes first every other time. Prints one JSON object a line: a median,
how far apart the values were, and where with a confidence of 95 % the median of all such
snapshots is.
"""

import json
import math
import os
import statistics
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
# pylint: disable=wrong-import-position
from common.machine import Machine, tracked_by, tracking, wait_for

QEMU, BUILD = sys.argv[1:3]
SNAPSHOTS = int(sys.argv[3]) if len(sys.argv) > 3 else 31
# As in sweep.S
PARTS = [(0x100000, 0x800000), (0x800000, 0xf00000)]
RECORD, ROUNDS, UNIT = 64, 128, 256
SUBJECTS = {'userfaultfd': 'uffd-wp', 'pgprotect': 'pgprotect'}
MEASURES = {'pause': 'ms', 'total': 'ms', 'events': 'events', 'calls': 'calls',
            'calls-per-event': 'calls', 'longest-write': 'us', 'mean-write': 'us'}
GUEST = ['-drive', f'file={BUILD}/sweep.img,format=raw,if=floppy,readonly=on']


def ticks_per_us():
    """Of the counter that RDTSC reads."""
    with open('/proc/cpuinfo', encoding='ascii') as file:
        return next(float(line.split(':')[1]) for line in file if line.startswith('cpu MHz'))


def rounds(machine, part):
    """{number: (longest, sum)} of the last rounds of a CPU."""
    data = machine.memory(part[0] + RECORD, 16 * ROUNDS)
    words = [int.from_bytes(data[i:i + 4], 'little') for i in range(0, len(data), 4)]
    return {words[i]: (words[i + 1], words[i + 2]) for i in range(0, len(words), 4)}


def one(machine, method, image):
    """Numbers of one snapshot, taken from a moment when the guest was stopped."""
    machine.call('stop')
    # The round it is in, and the next: in these it writes to each page for the first time
    numbers = [machine.word(part[0]) for part in PARTS]
    machine.snapshot_enable(method)
    info = machine.snapshot(image, quiet=True)
    assert tracked_by(info) == method, info
    longest, total, pages = 0, 0, 0
    for part, number in zip(PARTS, numbers):
        # Seldom: the monitor takes its time from the guest's
        wait_for('two rounds', lambda: machine.word(part[0]) > number + 1, interval=0.1)
        seen = rounds(machine, part)
        for n in (number, number + 1):
            longest = max(longest, seen[n][0])
            total += seen[n][1]
        pages += (part[1] - part[0]) // 4096
    did = tracking(info, method)
    unit = UNIT / ticks_per_us()
    return {'pause': info['downtime'], 'total': info['total-time'],
            'events': did['events'],
            'calls': did['system-calls'],
            'calls-per-event': did['system-calls'] / max(1, did['events']),
            'longest-write': longest * unit, 'mean-write': total * unit / pages}


def interval(values):
    """By order statistics, whatever the distribution."""
    values, n = sorted(values), len(values)
    first = max(0, int((n - 1.96 * math.sqrt(n)) / 2))
    return [round(values[first], 4), round(values[n - 1 - first], 4)]


def line(method, measure, unit, values):
    """One result, as the other benches write them."""
    median = statistics.median(values)
    return json.dumps({
        'bench': 'qemu-snapshot', 'subject': SUBJECTS[method], 'params': {'measure': measure},
        'unit': unit, 'value': round(median, 4),
        'spread': round((max(values) - min(values)) / median, 5) if median else 0,
        'interval': interval(values), 'repeats': len(values)})


def main():
    """All snapshots, and the table."""
    results = {'userfaultfd': [], 'pgprotect': []}
    # What a snapshot leaves behind, the next one finds
    order = list(results.items())
    with tempfile.TemporaryDirectory(prefix='bench.', dir='/dev/shm') as directory, \
            Machine(QEMU, directory, 'guest', 16, GUEST, cpus=2) as machine:
        machine.snapshot_events_enable()
        for part in PARTS:
            wait_for('the guest writes', lambda: machine.word(part[1] - 4) > 1)
        for _ in range(SNAPSHOTS):
            order.reverse()
            for method, list_ in order:
                list_.append(one(machine, method, os.path.join(directory, 'image')))
    for method, list_ in results.items():
        for measure, unit in MEASURES.items():
            print(line(method, measure, unit, [r[measure] for r in list_]), flush=True)


main()
