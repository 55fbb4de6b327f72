#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Background snapshots of a guest whose memory another process writes, too.

Usage: vhost_user.py QEMU DIRECTORY KERNEL [SNAPSHOTS]

A Linux guest reads a vhost-user disk all the time; qemu-storage-daemon stores what it
reads to guest memory. Each image is loaded, and the guest runs on: it knows what its
memory has to hold.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
# pylint: disable=wrong-import-position
from common import tap
from common.disk import Scene
from common.machine import tracked_by, tracking

QEMU, BUILD, KERNEL = sys.argv[1:4]
SNAPSHOTS = int(sys.argv[4]) if len(sys.argv) > 4 else 2



def judge(scene, method):
    """Make a snapshot and load it. Returns what was found wrong with it, or None."""
    info, path = scene.snapshot(method)
    used = tracked_by(info)
    assert used == ('pgprotect' if method == 'auto' else method), f'tracked by {used}'
    tap.note(f'{used}: {info["total-time"]} ms, guest stopped for {info["downtime"]} ms, '
             f'{tracking(info, used)["events"]} events')
    return scene.load(path)


def userfaultfd_tears(scene):
    """What this is about: the test has to see it."""
    wrong = judge(scene, 'userfaultfd')
    assert wrong, 'the image was whole, or the test cannot tell'
    tap.note(f'userfaultfd: {wrong}')


def pgprotect_does_not(scene):
    """As often as asked."""
    bad = 0
    for _ in range(SNAPSHOTS):
        wrong = judge(scene, 'auto')
        if wrong:
            tap.note(wrong)
            bad += 1
    tap.note(f'pgprotect: {SNAPSHOTS} snapshots, {bad} torn')
    assert not bad, f'{bad} of {SNAPSHOTS} torn'


with Scene(QEMU, BUILD, KERNEL) as the_scene:
    tap.run('vhost_user', [
        ('userfaultfd_tears_the_image', lambda: userfaultfd_tears(the_scene)),
        ('pgprotect_image_is_whole_and_runs_on', lambda: pgprotect_does_not(the_scene)),
    ])
