"""A link between two namespaces with a delay, a rate and loss (link.c)."""

import pathlib
import subprocess

PROGRAM = pathlib.Path(__file__).parent.parent / ".build" / "link"


class Link:
    """`one` and `other` are (namespace, device). Delay in milliseconds one way, rate in Mbit/s, loss in percent, queue in KiB."""

    def __init__(self, one, other, delay=0, rate=1000, loss=0, queue=1024, seed=1):
        places = [f"{namespace.path}:{device}" for namespace, device in (one, other)]
        options = [str(word) for pair in (("--delay", delay), ("--rate", rate), ("--loss", loss), ("--queue", queue),
                                          ("--seed", seed)) for word in pair]
        self._process = subprocess.Popen([PROGRAM, *places, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"link: {self._process.communicate()[1].strip()}")
        for namespace, device in (one, other):
            # No queue of the kernel's in front of the link's own: that one has the length asked for.
            namespace.ip(f"link set dev {device} txqueuelen 10000 up")

    @property
    def pid(self):
        return self._process.pid

    def close(self):
        """Ends the link and says what it carried."""
        self._process.terminate()
        return self._process.communicate()[1]
