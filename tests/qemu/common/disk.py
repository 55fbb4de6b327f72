# SPDX-License-Identifier: GPL-2.0
"""A Linux guest that reads a disk which another process serves."""

import os
import re
import shutil
import subprocess
import tempfile

from .machine import Machine, MonitorError, wait_for

STORAGE_DAEMON = '/usr/bin/qemu-storage-daemon'
# A guest of a guest, without KVM in either, takes its time
PATIENCE = 600
# The kernel needs most of it
MEMORY = 80
APPEND = ('console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check tsc=reliable audit=0 '
          'clearcpuid=rep_good')


class Disk:
    """A qemu-storage-daemon that serves an image to one guest."""

    def __init__(self, image, path):
        self.path = path
        self.process = subprocess.Popen(
            [STORAGE_DAEMON,
             '--blockdev', f'driver=file,node-name=disk,filename={image},read-only=on',
             '--export', 'type=vhost-user-blk,id=export,node-name=disk,num-queues=1,'
             f'addr.type=unix,addr.path={path}'],
            stdin=subprocess.DEVNULL)
        wait_for('the disk is served', lambda: os.path.exists(path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        if os.path.exists(self.path):
            os.unlink(self.path)


class Reader(Machine):
    """The guest: see guest/reader.c for what it does."""

    def __init__(self, qemu, directory, name, kernel, disk, build, incoming=None, **how):
        self.console = os.path.join(directory, name + '.console')
        args = ['-kernel', kernel, '-initrd', f'{build}/initramfs.cpio', '-append', APPEND,
                '-serial', f'file:{self.console}',
                '-chardev', f'socket,id=disk,path={disk.path}',
                '-device', 'vhost-user-blk-pci,chardev=disk,num-queues=1']
        if incoming:
            args += ['-incoming', incoming]
        super().__init__(qemu, directory, name, MEMORY, args, machine='q35', **how)

    def said(self):
        """The lines of its console."""
        try:
            with open(self.console, encoding='utf-8', errors='replace') as file:
                return file.read().split('\n')[:-1]
        except FileNotFoundError:
            return []

    def rounds(self):
        """How many rounds it has found whole since it was started or loaded."""
        return sum('whole' in line for line in self.said())

    def verdict(self, rounds, seconds):
        """Wait for so many more rounds. Returns None, or what was found wrong."""
        wanted = self.rounds() + rounds

        def look():
            wrong = [line for line in self.said()
                     if re.search('TORN|reader: read|panic|Oops|BUG', line)]
            return wrong[:1] or (['whole'] if self.rounds() >= wanted else None)
        try:
            line = wait_for('the guest reads', look, seconds)[0]
        except TimeoutError:
            return f'the guest stands still, after: {" / ".join(self.said()[-2:]) or "nothing"}'
        return None if line == 'whole' else line


class Scene:
    """A guest with its disk, of which snapshots are made."""

    def __init__(self, qemu, build, kernel):
        self.qemu, self.build, self.kernel = qemu, build, kernel
        self.directory = tempfile.mkdtemp(prefix='vhost-user.', dir='/dev/shm')
        self.image = os.path.join(self.directory, 'disk.img')
        with open(self.image, 'wb') as file:
            subprocess.run([f'{build}/pattern'], stdout=file, check=True)
        self.disk = Disk(self.image, os.path.join(self.directory, 'disk.sock'))
        self.guest = Reader(qemu, self.directory, 'guest', kernel, self.disk, build)
        wrong = self.guest.verdict(2, PATIENCE)
        assert not wrong, wrong

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guest.kill()
        self.disk.kill()
        shutil.rmtree(self.directory)

    def snapshot(self, method):
        """Make one. Returns what query-migrate says, and where the image is."""
        path = os.path.join(self.directory, 'snapshot')
        self.guest.snapshot_enable(method)
        info = self.guest.snapshot(path)
        wrong = self.guest.verdict(1, PATIENCE)
        assert not wrong, f'the guest itself was harmed: {wrong}'
        return info, path

    def load(self, path):
        """Load an image and let it run. Returns what was found wrong with it, or None."""
        self.guest.call('stop')
        try:
            with Disk(self.image, os.path.join(self.directory, 'loaded.sock')) as disk, \
                    Reader(self.qemu, self.directory, 'loaded', self.kernel, disk, self.build,
                           incoming=f'exec:cat {path}') as loaded:
                loaded.loaded()
                return loaded.verdict(2, PATIENCE // 2)
        except MonitorError as error:
            # The rings in memory are not those that the device's state is of.
            if 'error while loading state' not in str(error):
                raise
            return f'not loaded: {str(error).splitlines()[0]}'
        finally:
            self.guest.call('cont')
            os.unlink(path)
