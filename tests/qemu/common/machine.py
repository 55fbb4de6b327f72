# SPDX-License-Identifier: GPL-2.0
"""A QEMU process, and its monitor."""

import glob
import json
import os
import socket
import subprocess
import time

FIRMWARE = ('/usr/share/seabios', '/usr/share/qemu')
DEVICE = '/dev/pgprotect'
RAM = 'ram'
MIB = 1 << 20


class MonitorError(Exception):
    """What the monitor refused, in its own words."""


def wait_for(what, condition, seconds=60, interval=0.01):
    """Look every @interval seconds until @condition() is true, and return what it was."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f'{what}: not after {seconds} s')
        time.sleep(interval)


class Machine:
    """A guest whose memory of @mib MiB is @memory: memfd, file:PATH or ram."""

    def __init__(self, qemu, directory, name, mib, args, memory='memfd', cpus=1,
                 machine='pc', **popen):
        self.path = os.path.join(directory, name)
        backend = {'memfd': 'memory-backend-memfd,share=on',
                   'ram': 'memory-backend-ram'}.get(memory)
        if backend is None:
            backend = f'memory-backend-file,share=on,mem-path={memory[5:]}'
        command = [qemu, '-nodefaults', '-no-user-config', '-display', 'none',
                   '-accel', 'tcg,thread=multi,tb-size=128', '-smp', str(cpus),
                   '-machine', f'{machine},memory-backend={RAM}',
                   '-object', f'{backend},id={RAM},size={mib}M', '-m', f'{mib}M']
        for place in FIRMWARE:
            command += ['-L', place]
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        command += ['-chardev', f'socket,id=qmp,fd={fd}', '-mon', 'qmp,mode=control']
        self.stderr = open(self.path + '.err', 'w+', encoding='utf-8')
        popen['pass_fds'] = (fd, *popen.get('pass_fds', ()))
        self.process = subprocess.Popen(command + list(args), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.stderr,
                                        **popen)
        theirs.close()
        ours.settimeout(120)
        self.socket = ours
        self.lines = ours.makefile('r', encoding='utf-8')
        self.events = []
        self.size = mib * MIB
        try:
            self._read()
            self.call('qmp_capabilities')
        except (OSError, ValueError, MonitorError) as error:
            self.kill()
            raise MonitorError(f'{name} did not start: {self.messages()}') from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def _read(self):
        try:
            line = self.lines.readline()
        except ConnectionError:
            line = None
        if not line:
            self.process.wait()
            raise MonitorError(f'QEMU has gone: {self.messages()}')
        return json.loads(line)

    def call(self, command, **arguments):
        """Run a command of the monitor. Underscores stand for hyphens, in all new names."""
        old = ('qmp_capabilities', 'migrate_cancel')
        request = {'execute': command if command in old else command.replace('_', '-')}
        if arguments:
            request['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        self.socket.sendall(json.dumps(request).encode() + b'\n')
        return self._answer()

    def _answer(self):
        while True:
            answer = self._read()
            if 'event' in answer:
                self.events.append(answer)
            elif 'error' in answer:
                raise MonitorError(answer['error']['desc'])
            else:
                return answer['return']

    def event(self, name, condition):
        """Wait, and do nothing meanwhile, for an event with such data, which is taken."""
        while True:
            for event in self.events:
                if event['event'] == name and condition(event.get('data', {})):
                    self.events.remove(event)
                    return event
            line = self._read()
            assert 'event' in line, line
            self.events.append(line)

    def give(self, fd, name):
        """Give QEMU a file descriptor, by a name."""
        request = {'execute': 'getfd', 'arguments': {'fdname': name}}
        socket.send_fds(self.socket, [json.dumps(request).encode() + b'\n'], [fd])
        assert self._answer() == {}

    def human(self, line):
        """Run a line of the human monitor."""
        return self.call('human_monitor_command', command_line=line)

    def messages(self):
        """What QEMU has printed."""
        self.stderr.seek(0)
        return self.stderr.read()

    def kill(self):
        """End the process, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    # Memory and registers

    def memory(self, start=0, length=None):
        """Guest memory, physical."""
        path = self.path + '.mem'
        self.call('pmemsave', val=start, size=length or self.size - start, filename=path)
        with open(path, 'rb') as file:
            data = file.read()
        os.unlink(path)
        return data

    def word(self, address):
        """A 32-bit word of guest memory."""
        return int.from_bytes(self.memory(address, 4), 'little')

    # Snapshots

    def snapshot_enable(self, tracking=None, **parameters):
        """Ask for background snapshots from now on."""
        if tracking:
            parameters['write_tracking'] = tracking
        if parameters:
            self.call('migrate_set_parameters', **parameters)
        self.call('migrate_set_capabilities', capabilities=[
            {'capability': 'background-snapshot', 'state': True}])

    def snapshot_events_enable(self):
        """Be told of the end of a snapshot, for snapshot(quiet=True)."""
        self.call('migrate_set_capabilities', capabilities=[
            {'capability': 'events', 'state': True}])

    def snapshot_begin(self, target):
        """Begin a snapshot."""
        self.call('migrate', uri=target)

    def snapshot_ended(self):
        """What query-migrate says once it has ended, else None."""
        info = self.call('query_migrate')
        # The times are there a moment after the status is
        if info.get('status') == 'completed':
            return info if info.get('total-time') else None
        return info if info.get('status') in ('failed', 'cancelled') else None

    def snapshot_end(self, seconds=120):
        """Wait for the end of the snapshot."""
        return wait_for('end of snapshot', self.snapshot_ended, seconds)

    def stalled(self):
        """How many writers wait for QEMU."""
        total = 0
        for path in glob.glob(f'/proc/{self.process.pid}/fdinfo/*'):
            try:
                with open(path, encoding='ascii') as file:
                    total += sum(int(line.split()[1]) for line in file
                                 if line.startswith('stalled:'))
            except FileNotFoundError:
                pass
        return total

    def snapshot(self, path, quiet=False):
        """
        Make one, which has to succeed, in a file that QEMU itself writes. @quiet: wait until
        told of its end, and do not take CPUs from it by asking.
        """
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self.give(fd, 'image')
        finally:
            os.close(fd)
        self.snapshot_begin('fd:image')
        if quiet:
            self.event('MIGRATION', lambda data: data['status'] in (
                'completed', 'failed', 'cancelled'))
        info = self.snapshot_end()
        if info['status'] != 'completed':
            raise MonitorError(f'snapshot {info["status"]}: {info.get("error-desc")}')
        return info

    def loaded(self, seconds=120):
        """Wait until what -incoming names has been loaded."""
        wait_for('image loaded', lambda: self.call('query_status')['status'] != 'inmigrate',
                 seconds)


def tracked_by(info, block=RAM):
    """Which method a snapshot used for a block of memory."""
    for method in info.get('write-tracking', ()):
        if block in method['blocks']:
            return method['method']
    return None


def tracking(info, method):
    """What query-migrate says about a method."""
    return next(m for m in info['write-tracking'] if m['method'] == method)
