#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Background snapshots of a guest that writes to its memory all the time.

Usage: sweep.py QEMU DIRECTORY [SNAPSHOTS]

The guest is DIRECTORY/sweep.img, made of sweep.S. Every image is loaded. Of half of them,
the guest was stopped when the snapshot began, and all memory was read then: it has to be
the same to the byte. Of the other half the guest was running.
"""

import fcntl
import mmap
import os
import re
import select
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
# pylint: disable=wrong-import-position
from common import tap
from common.machine import MIB, Machine, tracked_by, tracking, wait_for

QEMU, BUILD = sys.argv[1:3]
SNAPSHOTS = int(sys.argv[3]) if len(sys.argv) > 3 else 5
PAGE = 4096
# As in sweep.S
PARTS = [(0x100000, 0x800000), (0x800000, 0xf00000)]
GUEST = ['-drive', f'file={BUILD}/sweep.img,format=raw,if=floppy,readonly=on']
MEMORY = 16


def start(directory, cpus, **how):
    """The guest, with each CPU in its second round at least."""
    machine = Machine(QEMU, directory, 'guest', MEMORY, GUEST, cpus=cpus, **how)
    for part in PARTS[:cpus]:
        wait_for('the guest writes', lambda: machine.word(part[1] - 4) > 1)
    return machine


def load(directory, image, cpus):
    """A guest that has loaded @image, stopped."""
    machine = Machine(QEMU, directory, 'loaded', MEMORY,
                      GUEST + ['-S', '-incoming', f'exec:cat {image}'], cpus=cpus)
    machine.loaded()
    return machine


def registers(machine):
    """The number and the page that each CPU is at."""
    text = machine.human('info registers -a')
    return [(int(a, 16), int(d, 16)) for a, d in
            zip(re.findall(r'ESP=([0-9a-f]+)', text), re.findall(r'EDI=([0-9a-f]+)', text))]


def word(memory, address):
    """A word of memory that was read."""
    return int.from_bytes(memory[address:address + 4], 'little')


def differs(one, other):
    """Which words of two memories differ, or None."""
    if one == other:
        return None
    places = [a for a in range(0, len(one), 4) if one[a:a + 4] != other[a:a + 4]]
    return f'{len(places)} words differ: ' + ', '.join(
        f'{a:#x} held {word(one, a)}, image {word(other, a)}' for a in places[:4])


def torn(memory, cpus):
    """Why this memory cannot be that of one moment, or None."""
    for part, (number, place) in zip(PARTS, cpus):
        for page in range(part[0], part[1], PAGE):
            if page == place:
                allowed = (number, number - 1)
            else:
                allowed = (number if page < place else number - 1,)
            for address in (page, page + PAGE - 4):
                if word(memory, address) not in allowed:
                    return (f'{address:#x} holds {word(memory, address)}; '
                            f'the CPU was at {place:#x} with {number}')
    return None


def one_snapshot(machine, directory, cpus, compare):
    """Take one, load it, judge it. Returns how many writers had to wait."""
    image = os.path.join(directory, 'image')
    before = None
    if compare:
        machine.call('stop')
        before = machine.memory()
    info = machine.snapshot(image)
    assert tracked_by(info) == 'pgprotect', f'tracked by {tracked_by(info)}'
    with load(directory, image, cpus) as other:
        memory = other.memory()
        where = registers(other)
    if before:
        why = differs(before, memory)
        assert not why, f'not as when the snapshot began: {why}; CPUs {where}'
    why = torn(memory, where)
    assert not why, f'not of one moment: {why}'
    assert machine.call('query_status')['running'], 'the guest does not run on'
    return tracking(info, 'pgprotect')['events']


def images_are_whole(cpus):
    """The judgement over all snapshots."""
    bad, events = 0, 0
    with tempfile.TemporaryDirectory(prefix='sweep.', dir='/dev/shm') as directory, \
            start(directory, cpus) as machine:
        machine.snapshot_enable()
        for number in range(SNAPSHOTS):
            try:
                waited = one_snapshot(machine, directory, cpus, number % 2 == 0)
            except AssertionError as error:
                tap.note(f'snapshot {number}: {error}')
                bad += 1
                continue
            assert waited, 'nobody wrote during the snapshot'
            events += waited
            if number % 10 == 9:
                tap.note(f'{number + 1} of {SNAPSHOTS}, {bad} torn')
    tap.note(f'{SNAPSHOTS} snapshots, {bad} torn, {events} writes had to wait')
    assert not bad, f'{bad} of {SNAPSHOTS} torn'


def loaded_guest_runs_on():
    """It counts on from where the snapshot was made."""
    with tempfile.TemporaryDirectory(prefix='sweep.', dir='/dev/shm') as directory, \
            start(directory, 2) as machine:
        image = os.path.join(directory, 'image')
        machine.snapshot_enable()
        machine.snapshot(image)
        with load(directory, image, 2) as other:
            then = [number for number, _ in registers(other)]
            other.call('cont')
            for part, number in zip(PARTS, then):
                wait_for('the loaded guest writes',
                         lambda: other.word(part[1] - 4) > number)
            other.call('stop')
            why = torn(other.memory(), registers(other))
            assert not why, why


class Target:
    """A pipe, which takes what a snapshot gives it a page at a time."""

    def __init__(self, machine, path):
        self.machine = machine
        self.image = open(path, 'wb')
        self.read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PAGE)
        machine.give(write_end, 'image')
        os.close(write_end)
        machine.snapshot_begin('fd:image')

    def left(self):
        """Pages that have not been saved."""
        ram = self.machine.call('query_migrate').get('ram', {})
        return ram.get('remaining', 1 << 40) // PAGE

    def take_until(self, left):
        """Take until so few are left. What is on its way stops soon after."""
        while self.left() > left:
            if select.select([self.read_end], [], [], 0.02)[0]:
                self.image.write(os.read(self.read_end, PAGE))

    def take_all(self):
        """Take the rest."""
        while data := os.read(self.read_end, MIB):
            self.image.write(data)
        self.image.close()

    def close(self):
        """Whatever was taken."""
        os.close(self.read_end)
        self.image.close()


def start_still(directory, memory):
    """A guest that does nothing, with something in all of its memory."""
    image = os.path.join(directory, 'still.img')
    with open(image, 'wb') as file:
        file.write(b'\xfa\xf4\xeb\xfd'.ljust(510, b'\0') + b'\x55\xaa')  # cli; hlt; jmp
        file.truncate(1440 * 1024)
    machine = Machine(QEMU, directory, 'still', MEMORY,
                      ['-drive', f'file={image},format=raw,if=floppy,readonly=on'],
                      memory=f'file:{memory}')
    wait_for('the guest halts', lambda: all(
        word in machine.human('info registers') for word in ('HLT=1', 'EIP=00007c0')))
    with open(memory, 'r+b') as file, mmap.mmap(file.fileno(), 0) as pages:
        for page in range(256, MEMORY * 256):
            pages[page * PAGE] = page % 255 + 1
    return machine


def events(machine):
    """How many writers the snapshot has been told of."""
    return tracking(machine.call('query_migrate'), 'pgprotect')['events']


def store_outside(path, page):
    """Another process that maps the memory, and writes to one page."""
    return subprocess.Popen([sys.executable, '-c', f"""
import mmap
with open('{path}', 'r+b') as file:
    mmap.mmap(file.fileno(), 0)[{page * PAGE}] = 255
"""])


def search_goes_astray(machine, memory, path, phase):
    """A snapshot in which somebody waits for a page that has been saved, but not yet been
    released, and all of those behind it have been, too, while others have not.

    Returns False if it was released before it was asked for: QEMU releases 64 at a time,
    and @phase is where among them it should be.
    """
    last = MEMORY * MIB // PAGE - 1
    target = Target(machine, path)
    try:
        wait_for('the snapshot begins', lambda: target.left() < 1 << 20)
        total = machine.call('query_migrate')['ram']['total'] // PAGE
        target.take_until(total - 300)
        saved = total - target.left()
        # From here to the end of memory
        first = last - ((phase - saved) % 64 or 64)
        writers = [store_outside(memory, first)]
        wait_for('the first waits', lambda: machine.stalled() == 1)
        # The rest of memory, all that is not, and on where it was
        target.take_until(target.left() - (last - first + 1) - (total - last - 1) - 1)
        asked = events(machine)
        writers.append(store_outside(memory, last))
        wait_for('the second is there', lambda: machine.stalled() or
                 writers[1].poll() is not None)
        target.take_all()
        info = machine.snapshot_end()
        assert info['status'] == 'completed', info
        for writer in writers:
            assert writer.wait(60) == 0, 'a writer failed'
        return events(machine) > asked
    finally:
        target.close()


def nothing_is_left_out():
    """All memory is in the image, whatever the search for it was told meanwhile."""
    with tempfile.TemporaryDirectory(prefix='sweep.', dir='/dev/shm') as directory:
        memory = os.path.join(directory, 'memory')
        image = os.path.join(directory, 'image')
        with start_still(directory, memory) as machine:
            machine.snapshot_enable()
            for phase in range(64):
                before = machine.memory()
                if search_goes_astray(machine, memory, image, phase):
                    tap.note(f'in phase {phase}')
                    break
            else:
                raise AssertionError('the page had been released, each time')
            with load(directory, image, 1) as other:
                why = differs(before, other.memory())
                assert not why, why


def judge_sees_a_torn_image():
    """One page of another time in a memory that was whole."""
    with tempfile.TemporaryDirectory(prefix='sweep.', dir='/dev/shm') as directory, \
            start(directory, 1) as machine:
        machine.call('stop')
        memory = bytearray(machine.memory())
        where = registers(machine)
        assert not torn(memory, where), torn(memory, where)
        page = PARTS[0][0] if where[0][1] != PARTS[0][0] else PARTS[0][0] + PAGE
        later = word(memory, page) + 1
        memory[page:page + 4] = later.to_bytes(4, 'little')
        assert torn(memory, where)


assert MEMORY * MIB >= PARTS[-1][1]
tap.run('sweep', [
    ('judge_sees_a_torn_image', judge_sees_a_torn_image),
    ('images_are_whole_with_1_cpu', lambda: images_are_whole(1)),
    ('images_are_whole_with_2_cpus', lambda: images_are_whole(2)),
    ('loaded_guest_runs_on', loaded_guest_runs_on),
    ('nothing_is_left_out', nothing_is_left_out),
])
