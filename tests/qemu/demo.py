#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""One guest with a vhost-user disk, snapshots of it with userfaultfd and with pgprotect.

Usage: demo.py QEMU DIRECTORY KERNEL

For scripts/demo-qemu: "== " begins a step, ">> " is what was shown.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
# pylint: disable=wrong-import-position
from common.disk import Scene
from common.machine import tracked_by, tracking


def say(text):
    """At once."""
    print(text, flush=True)


def show(scene, method):
    """One snapshot. Returns what is wrong with its image."""
    say(f'== background snapshot with {method}, while the disk is being read')
    info, path = scene.snapshot(method)
    assert tracked_by(info) == method, info
    say(f'{info["total-time"]} ms, the guest stood still for {info["downtime"]} ms; '
        f'{tracking(info, method)["events"]} times a writer had to wait')
    say('== loading the image in a new QEMU, with a new disk process, and letting it run')
    wrong = scene.load(path)
    say(wrong or 'the guest runs on, and its memory is what it has read from its disk')
    return wrong


def main():
    """Both."""
    say('== a Linux guest; qemu-storage-daemon serves its disk and stores to its memory')
    with Scene(*sys.argv[1:4]) as scene:
        torn = show(scene, 'userfaultfd')
        whole = show(scene, 'pgprotect')
    if torn:
        say('>> userfaultfd: the disk process wrote past it; the image has pages of different times.')
    if not whole:
        say('>> pgprotect: the disk process had to wait, too; the image is of one moment and runs on.')


main()
