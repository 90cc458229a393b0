"""Labs side by side: each in namespaces of its own (enter.sh), with a process that does one run after another."""

import json
import os
import pathlib
import queue
import subprocess
import sys
import threading

ENTER = pathlib.Path(__file__).parent.parent / "enter.sh"


class WorkerEnded(Exception):
    """A worker ended before its run did."""


def perform(tasks, jobs, report):
    """Has `jobs` workers do the tasks in order, each as soon as one is free. `report(record)` is called for every one that is
    done, one at a time. Raises what the first failing worker raised, when all have ended."""
    waiting, failures, lock = queue.SimpleQueue(), [], threading.Lock()
    for task in tasks:
        waiting.put(task)

    def work():
        try:
            with subprocess.Popen([ENTER, sys.executable, "-m", "lab", "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True) as worker:
                try:
                    while not failures:
                        task = waiting.get_nowait()
                        worker.stdin.write(json.dumps(task) + "\n")
                        worker.stdin.flush()
                        line = worker.stdout.readline()
                        if not line:
                            raise WorkerEnded(f"a worker ended in {task}")
                        with lock:
                            report(json.loads(line))
                except queue.Empty:
                    pass
                finally:
                    worker.stdin.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main(_):
    """A worker: a task a line in, a record a line out."""
    from .pairs import perform_task

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no answer
    for line in sys.stdin:
        answers.write(json.dumps(perform_task(json.loads(line))) + "\n")
        answers.flush()
    return 0
