#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Background snapshots that cannot be: what QEMU says, and that the guest is not harmed.

Usage: unharmed.py QEMU DIRECTORY

The guest is that of sweep.py. It is unharmed if both of its CPUs go on writing.
"""

import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
# pylint: disable=wrong-import-position
from common import tap
from common.machine import DEVICE, RAM, Machine, MonitorError, tracked_by, wait_for

QEMU, BUILD = sys.argv[1:3]
# Where the parts of the CPUs end, as in sweep.S, and what nobody writes
PARTS = (0x800000, 0xf00000)
UNUSED = 0xf80000
GUEST = ['-drive', f'file={BUILD}/sweep.img,format=raw,if=floppy,readonly=on']
STALL_MS = '/proc/sys/vm/pgprotect_stall_ms'
NOBODY = 65534


class Guest(Machine):
    """The guest, at work, in a directory of its own."""

    def __init__(self, args=(), **how):
        self.directory = tempfile.TemporaryDirectory(prefix='unharmed.', dir='/dev/shm')
        os.chmod(self.directory.name, 0o777)
        self.fifo = os.path.join(self.directory.name, 'fifo')
        os.mkfifo(self.fifo)
        if how.get('memory', '').endswith('/'):
            how['memory'] += os.path.basename(self.directory.name) + '.ram'
        super().__init__(QEMU, self.directory.name, 'guest', 16, GUEST + list(args),
                         cpus=2, **how)
        wait_for('the guest writes', lambda: all(self.word(p - 4) for p in PARTS))

    def kill(self):
        super().kill()
        self.directory.cleanup()

    def must_be_well(self):
        """Both CPUs get round."""
        assert self.call('query_status')['running'], 'the guest does not run'
        for part in PARTS:
            before = self.word(part - 4)
            wait_for('the guest goes on', lambda: self.word(part - 4) > before + 1, 30)

    def refuses(self, command, *words):
        """@command fails, and the error says all of @words."""
        try:
            command()
        except MonitorError as error:
            said = str(error)
            assert all(w in said for w in words), f'the error is: {said}'
            return
        raise AssertionError('no error')

    def places(self):
        """Where the CPUs are."""
        return re.findall('EDI=([0-9a-f]+)', self.human('info registers -a'))

    def hang(self):
        """Begin a snapshot to a target that takes nothing, until somebody waits."""
        self.snapshot_begin(f'exec:cat >{self.fifo}')
        wait_for('writers wait', self.stalled)

    def end_of_hang(self):
        """Let the target take what it is given."""
        with open(self.fifo, 'rb') as file:
            while file.read(1 << 20):
                pass


def memory_without_a_file():
    """Private memory: not with pgprotect; with userfaultfd all the same."""
    with Guest(memory='ram') as guest:
        guest.refuses(lambda: guest.snapshot_enable('pgprotect'), RAM, 'shared')
        guest.must_be_well()
        guest.snapshot_enable('auto')
        info = guest.snapshot('/dev/null')
        assert tracked_by(info) == 'userfaultfd', info
        assert 'warning' not in guest.messages(), guest.messages()
        guest.must_be_well()


def file_that_is_refused():
    """Memory on a file system that pgprotect does not know."""
    path = tempfile.mkdtemp(prefix='unharmed.', dir='/root')
    with Guest(memory=f'file:{path}/') as guest:
        guest.refuses(lambda: guest.snapshot_enable('pgprotect'), RAM, 'not supported')
        guest.must_be_well()


def target_full():
    """The target breaks off; the next one does not."""
    with Guest() as guest:
        guest.snapshot_enable()
        guest.snapshot_begin('exec:cat >/dev/full')
        info = guest.snapshot_end()
        assert info['status'] == 'failed', info
        assert not guest.stalled(), 'somebody waits'
        guest.must_be_well()
        guest.snapshot('/dev/null')
        guest.must_be_well()


def second_snapshot_and_cancel():
    """One at a time. Cancelled, nobody waits for a target that hangs."""
    with Guest() as guest:
        guest.snapshot_enable()
        guest.hang()
        guest.refuses(lambda: guest.snapshot_begin('exec:cat >/dev/null'), 'in progress')
        guest.call('migrate_cancel')
        guest.must_be_well()
        assert not guest.stalled(), 'somebody waits'
        guest.end_of_hang()
        info = guest.snapshot_end()
        assert info['status'] == 'cancelled', info
        guest.snapshot('/dev/null')
        guest.must_be_well()


def limit_reached():
    """The target hangs longer than anybody may wait: no image, but a guest."""
    with open(STALL_MS, encoding='ascii') as file:
        usual = file.read()
    with open(STALL_MS, 'w', encoding='ascii') as file:
        file.write('500')
    try:
        with Guest() as guest:
            guest.snapshot_enable()
            guest.hang()
            # Each page takes the limit once; a store gets through all the same
            for _ in range(3):
                place = guest.places()
                wait_for('the writers go on', lambda: guest.places() != place, 30)
            guest.end_of_hang()
            info = guest.snapshot_end()
            assert info['status'] == 'failed', info
            assert 'stall' in info['error-desc'], info
            guest.must_be_well()
    finally:
        with open(STALL_MS, 'w', encoding='ascii') as file:
            file.write(usual)


def killed():
    """QEMU dies while another process waits to write to guest memory."""
    with Guest(memory='file:/dev/shm/') as guest:
        path = guest.directory.name + '.ram'
        try:
            guest.snapshot_enable()
            guest.hang()
            waiting = guest.stalled()
            with subprocess.Popen([sys.executable, '-c', f'''
import mmap
with open({path!r}, "r+b") as file:
    mmap.mmap(file.fileno(), 0)[{UNUSED}] = 1
''']) as writer:
                wait_for('the writer waits', lambda: guest.stalled() > waiting)
                assert writer.poll() is None
                guest.process.kill()
                assert writer.wait(30) == 0, 'the writer failed'
        finally:
            os.unlink(path)


def no_permission():
    """Not allowed to open the device: one warning. Passed in, it works."""
    with open('/proc/sys/vm/unprivileged_userfaultfd', 'w', encoding='ascii') as file:
        file.write('1')
    device = os.open(DEVICE, os.O_RDWR)
    with Guest(['-add-fd', f'fd={device},set=7'], pass_fds=(device,),
               user=NOBODY, group=NOBODY, extra_groups=()) as guest:
        os.close(device)
        guest.refuses(lambda: guest.snapshot_enable('pgprotect'), DEVICE, 'denied')
        guest.snapshot_enable('auto')
        for _ in range(2):
            info = guest.snapshot('/dev/null')
            assert tracked_by(info) == 'userfaultfd', info
        said = guest.messages()
        assert said.count('warning') == 1 and DEVICE in said, said
        guest.must_be_well()
        guest.snapshot_enable('pgprotect', write_tracking_device='/dev/fdset/7')
        for _ in range(2):
            info = guest.snapshot('/dev/null')
            assert tracked_by(info) == 'pgprotect', info
            guest.must_be_well()


def device_without_the_right():
    """Opened by somebody for whom it makes the kernel's writes fail: not used."""
    mode = os.stat(DEVICE).st_mode
    os.chmod(DEVICE, 0o666)
    try:
        with Guest(user=NOBODY, group=NOBODY, extra_groups=()) as guest:
            guest.refuses(lambda: guest.snapshot_enable('pgprotect'), 'CAP_SYS_PTRACE')
            guest.must_be_well()
    finally:
        os.chmod(DEVICE, mode)


def both_in_one_snapshot():
    """Memory of a device is private: userfaultfd. The guest's is not."""
    with Guest(['-device', 'VGA']) as guest:
        guest.refuses(lambda: guest.snapshot_enable('pgprotect'), 'vga.vram', 'shared')
        guest.snapshot_enable('auto')
        info = guest.snapshot('/dev/null')
        assert tracked_by(info) == 'pgprotect', info
        assert tracked_by(info, '0000:00:02.0/vga.vram') == 'userfaultfd', info
        assert 'warning' not in guest.messages(), guest.messages()
        guest.must_be_well()


def no_device():
    """A kernel without it, as it were; and the human monitor says what was used."""
    with Guest() as guest:
        missing = '/dev/there-is-none'
        guest.refuses(lambda: guest.snapshot_enable('pgprotect', write_tracking_device=missing),
                      missing)
        guest.snapshot_enable('auto')
        info = guest.snapshot('/dev/null')
        assert tracked_by(info) == 'userfaultfd', info
        said = guest.human('info migrate')
        assert "write tracking: userfaultfd" in said and f"'{RAM}'" in said, said
        assert guest.messages().count('warning') == 1, guest.messages()
        guest.must_be_well()


tap.run('unharmed', [
    ('memory_without_a_file', memory_without_a_file),
    ('file_that_is_refused', file_that_is_refused),
    ('target_full', target_full),
    ('second_snapshot_and_cancel', second_snapshot_and_cancel),
    ('limit_reached', limit_reached),
    ('killed_qemu_leaves_nobody_waiting', killed),
    ('no_permission', no_permission),
    ('device_without_the_right', device_without_the_right),
    ('both_in_one_snapshot', both_in_one_snapshot),
    ('no_device', no_device),
])
