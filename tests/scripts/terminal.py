"""A program at a terminal: a pty of a given size, text that is typed, and waiting for what it shows. No sleeps: every step waits for the
answer to the one before."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

LIMIT_S = 30
ESCAPES = re.compile(r"\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Za-z0-9]|[=>78MHD])")
BELL = re.compile(r"\x07|.\x08(?=.)")  # and what was typed over
PARTIAL = re.compile(r"\x1b[^A-Za-z\x1b]*$")  # may go on


class TerminalError(Exception):
    pass


class Terminal:
    """`stdout`: None for the terminal, or a file or pipe in its place."""

    def __init__(self, argv, columns=200, rows=50, env=None, cwd=None, stdout=None, stdin=None):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

        def own_terminal():
            os.setsid()
            fcntl.ioctl(2, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(argv, stdin=slave if stdin is None else stdin, stdout=slave if stdout is None else stdout,
                                        stderr=slave, env={**os.environ, "TERM": "xterm", **(env or {})}, cwd=cwd,
                                        preexec_fn=own_terminal)
        os.close(slave)
        self.raw = ""  # all that was shown
        self.at = 0    # behind what was waited for

    @property
    def shown(self):
        return BELL.sub("", ESCAPES.sub("", PARTIAL.sub("", self.raw)))

    def _read(self, wait_s):
        if not select.select([self.master], [], [], wait_s)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            data = b""
        self.raw += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern, raw=False):
        """Waits until the pattern is in what was shown since the last wait; the match."""
        deadline = time.monotonic() + LIMIT_S
        going = True
        while True:
            text = self.raw if raw else self.shown
            hit = re.compile(pattern).search(text, 0 if raw else min(self.at, len(text)))
            if hit:
                if not raw:
                    self.at = hit.end()
                return hit
            if not going or time.monotonic() > deadline:
                raise TerminalError(f"{pattern!r} was not shown; what was:\n{text[-3000:]}")
            going = self._read(0.1)

    def send(self, text):
        os.write(self.master, text.encode())

    def interrupt(self):
        self.send("\x03")

    def end(self):
        """Waits for its end; the exit code."""
        deadline = time.monotonic() + LIMIT_S
        while self._read(0.1):
            if time.monotonic() > deadline:
                self.close()
                raise TerminalError(f"it does not end; it showed:\n{self.shown[-3000:]}")
        code = self.process.wait(LIMIT_S)
        os.close(self.master)
        self.master = -1
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

