#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Background snapshots of a guest whose memory another process writes, too.

Usage: vhost_user.py QEMU DIRECTORY KERNEL [SNAPSHOTS]

A Linux guest reads a vhost-user disk all the time; qemu-storage-daemon stores what it
reads to guest memory. Each image is loaded, and the guest runs on: it knows what its
memory has to hold.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
# pylint: disable=wrong-import-position
from common import tap
from common.disk import Disk, Reader
from common.machine import tracked_by, tracking

QEMU, BUILD, KERNEL = sys.argv[1:4]
SNAPSHOTS = int(sys.argv[4]) if len(sys.argv) > 4 else 2
# The kernel of the tests boots in a guest of a guest, without KVM in either
PATIENCE = 240


class Run:
    """One guest, of which snapshots are made."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix='vhost-user.', dir='/dev/shm')
        self.image = os.path.join(self.directory, 'disk.img')
        with open(self.image, 'wb') as file:
            subprocess.run([f'{BUILD}/pattern'], stdout=file, check=True)
        self.disk = Disk(self.image, os.path.join(self.directory, 'disk.sock'))
        self.guest = Reader(QEMU, self.directory, 'guest', KERNEL, self.disk, BUILD)
        wrong = self.guest.verdict(2, PATIENCE)
        assert not wrong, wrong

    def snapshot(self, method):
        """Make one and load it. Returns what was found wrong with it, or None."""
        path = os.path.join(self.directory, 'snapshot')
        self.guest.snapshot_enable(method)
        info = self.guest.snapshot(path)
        used = tracked_by(info)
        assert used == ('pgprotect' if method == 'auto' else method), f'tracked by {used}'
        tap.note(f'{used}: {info["total-time"]} ms, guest stopped for {info["downtime"]} ms, '
                 f'{tracking(info, used)["events"]} events')
        wrong = self.guest.verdict(1, PATIENCE)
        assert not wrong, f'the guest itself was harmed: {wrong}'
        self.guest.call('stop')
        try:
            with Disk(self.image, os.path.join(self.directory, 'loaded.sock')) as disk, \
                    Reader(QEMU, self.directory, 'loaded', KERNEL, disk, BUILD,
                           incoming=f'exec:cat {path}') as loaded:
                loaded.loaded()
                return loaded.verdict(2, 30)
        finally:
            self.guest.call('cont')
            os.unlink(path)


RUN = Run()


def userfaultfd_tears():
    """What this is about: the test has to see it."""
    wrong = RUN.snapshot('userfaultfd')
    assert wrong, 'the image was whole, or the test cannot tell'
    tap.note(f'userfaultfd: {wrong}')


def pgprotect_does_not():
    """As often as asked."""
    bad = 0
    for _ in range(SNAPSHOTS):
        wrong = RUN.snapshot('auto')
        if wrong:
            tap.note(wrong)
            bad += 1
    tap.note(f'pgprotect: {SNAPSHOTS} snapshots, {bad} torn')
    assert not bad, f'{bad} of {SNAPSHOTS} torn'


try:
    tap.run('vhost_user', [
        ('userfaultfd_tears_the_image', userfaultfd_tears),
        ('pgprotect_image_is_whole_and_runs_on', pgprotect_does_not),
    ])
finally:
    RUN.guest.kill()
    RUN.disk.kill()
