"""Runs mixlab-cli for the jobs of a serverless worker (RunPod's interface).

A job is `{"input": {...}}`:

    mode          the subcommand [smoke]
    config_json   a config as an object; written to a file of its own unless `config` is given
    args          a list of arguments, passed as they are
    setup, post   lists of commands before and after mixlab; a string goes through the shell, a list
                  does not, and has $VAR and ${VAR} replaced in each of its elements
    timeout       seconds for setup and mixlab together [3600]
    post_timeout  seconds for post [600]

Every other field is a flag of mixlab-cli: `"max_tokens": 64` is `--max-tokens 64`, `true` is the flag
alone, a list repeats it, and `null`, `false` and `""` leave it out. MIXLAB_CONFIG names the config for
mixlab and for post commands.

When the time is up mixlab gets SIGTERM, on which it writes the weights of the step that it has reached;
post commands still run, so that they can be fetched. The result has `stdout`, `stderr` and `exit_code`
of mixlab, `setup_stdout` and `post_stdout`, and `error` or `post_error` if something went wrong. Outputs
are streamed to the log as they come; the result keeps the last megabyte of each.
"""

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time

PROGRAM = os.environ.get("MIXLAB", "mixlab-cli")
# Bytes of an output that a result keeps.
KEPT = 1 << 20
# Seconds from SIGTERM to SIGKILL: time to write the weights.
GRACE = float(os.environ.get("MIXLAB_GRACE", "60"))
# Seconds that the pipes of a process that has ended are still read, if a child of it holds them.
LINGER = 2.0
OWN = {"mode", "config_json", "args", "setup", "post", "timeout", "post_timeout"}


class Wrong(Exception):
    """What a job asks for that cannot be done."""


class Output:
    """One pipe of a process: its lines go to the log, its end is kept."""

    def __init__(self, prefix):
        self.prefix, self.kept, self.line, self.dropped = prefix, bytearray(), bytearray(), 0

    def feed(self, data):
        self.kept += data
        extra = len(self.kept) - KEPT
        if extra > 0:
            del self.kept[:extra]
            self.dropped += extra
        *lines, rest = (self.line + data).split(b"\n")
        for line in lines:
            self.log(line)
        self.line = bytearray(rest)
        # A progress line that never ends is logged in pieces.
        if len(self.line) > 1 << 16:
            self.end()

    def end(self):
        if self.line:
            self.log(self.line)
        self.line = bytearray()

    def log(self, line):
        print(self.prefix + line.decode(errors="replace"), flush=True)

    def text(self):
        start = f"[{self.dropped} bytes before this left out]\n" if self.dropped else ""
        return start + self.kept.decode(errors="replace")


def run(command, label, environment, deadline):
    """Runs one command to its end or the deadline: its outputs, exit code, and whether time was up."""
    shell = isinstance(command, str)
    print(f"[{label}] {command if shell else ' '.join(command)}", flush=True)
    outputs = Output(""), Output("[stderr] ")
    try:
        # A session of its own, so that whatever it starts can be ended with it.
        process = subprocess.Popen(command, shell=shell, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        raise Wrong(f"{label}: `{command if shell else command[0]}` cannot be started: {error.strerror}") from error
    late = pump(process, outputs, deadline)
    for output in outputs:
        output.end()
    stdout, stderr = (output.text() for output in outputs)
    return dict(stdout=stdout, stderr=stderr, exit_code=process.returncode), late


def pump(process, outputs, deadline):
    """Reads both pipes until the process has ended; ends it at the deadline. True if that was needed."""
    late, kill_at, linger_until = False, None, None
    with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
        for pipe, output in zip((process.stdout, process.stderr), outputs):
            selector.register(pipe, selectors.EVENT_READ, output)
        while True:
            for key, _ in selector.select(0.05):
                data = os.read(key.fd, 1 << 16)
                if data:
                    key.data.feed(data)
                else:
                    selector.unregister(key.fileobj)
            now = time.monotonic()
            if process.poll() is not None:
                linger_until = linger_until or now + LINGER
                if not selector.get_map() or now >= linger_until:
                    break
            elif kill_at is None and now >= deadline:
                late, kill_at = True, now + GRACE
                end(process, signal.SIGTERM)
            elif kill_at is not None and now >= kill_at:
                end(process, signal.SIGKILL)
        # Whoever is left of its session ends with it.
        end(process, signal.SIGKILL)
    return late


def end(process, number):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def expanded(command, environment):
    """A list with $VAR and ${VAR} in its elements replaced by what the environment has."""
    def value(found):
        return environment.get(found[1] or found[2], found[0])

    if isinstance(command, str):
        return command
    return [re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, element) for element in command]


def commands(job, name):
    """The commands of a job under `name`, checked."""
    listed = job.get(name) or []
    if not isinstance(listed, list):
        raise Wrong(f"{name} is {json.dumps(listed)[:80]}, not a list of commands")
    for at, command in enumerate(listed):
        is_list = isinstance(command, list) and command and all(isinstance(part, str) for part in command)
        if not (isinstance(command, str) or is_list):
            raise Wrong(f"{name}[{at}] is {json.dumps(command)[:80]}, neither a string nor a list of strings")
    return listed


def seconds(job, name, default):
    value = job.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise Wrong(f"{name} is {json.dumps(value)[:80]}, not a number of seconds above 0")
    return value


def arguments(job, config):
    """mixlab-cli's command line for a job."""
    mode = job.get("mode") or "smoke"
    if not isinstance(mode, str) or mode.startswith("-"):
        raise Wrong(f"mode is {json.dumps(mode)[:80]}, not the name of a subcommand")
    line = [PROGRAM, mode]
    flags = {name: value for name, value in job.items() if name not in OWN}
    if config is not None:
        flags["config"] = config
    for name, value in flags.items():
        line += flag(name, value)
    extra = job.get("args") or []
    if not (isinstance(extra, list) and all(isinstance(part, str) for part in extra)):
        raise Wrong(f"args is {json.dumps(extra)[:80]}, not a list of strings")
    return line + extra


def flag(name, value):
    """The arguments that say `name` is `value`."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise Wrong(f"{json.dumps(name)[:80]} is no name of a flag")
    spelled = "--" + name.replace("_", "-")
    if value is None or value is False or value == "":
        return []
    if value is True:
        return [spelled]
    if isinstance(value, list):
        return [part for each in value for part in flag(name, each)]
    if isinstance(value, (str, int, float)):
        # In one piece, so that a value that begins with a dash stays a value.
        return [f"{spelled}={value}"]
    raise Wrong(f"{name} is an object: give a config as config_json, other values as text or numbers")


def write_config(job, folder):
    """The path of the config that mixlab reads, written if the job brings it along."""
    if job.get("config"):
        if not isinstance(job["config"], str):
            raise Wrong(f"config is {json.dumps(job['config'])[:80]}, not a path: an object is config_json")
        return job["config"]
    if job.get("config_json") is None:
        return None
    if not isinstance(job["config_json"], dict):
        raise Wrong(f"config_json is {json.dumps(job['config_json'])[:80]}, not an object")
    path = os.path.join(folder, "config.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(job["config_json"], file)
    return path


def work(job, folder):
    """Everything a job asks for, in order."""
    setup, post = commands(job, "setup"), commands(job, "post")
    timeout, post_timeout = seconds(job, "timeout", 3600), seconds(job, "post_timeout", 600)
    config = write_config(job, folder)
    line = arguments(job, config)
    environment, result = dict(os.environ), {}
    deadline = time.monotonic() + timeout

    texts = []
    for at, command in enumerate(setup):
        done, late = run(expanded(command, environment), f"setup[{at}]", environment, deadline)
        texts.append(done["stdout"])
        if late or done["exit_code"]:
            return failure(f"setup[{at}]", command, done, late)
    if setup:
        result["setup_stdout"] = "".join(texts)

    if config is not None:
        environment["MIXLAB_CONFIG"] = config
    done, late = run(line, "mixlab", environment, deadline)
    result.update(done)
    if late:
        result["error"] = "timeout"
    result.update(after(post, environment, time.monotonic() + post_timeout))
    return result


def after(post, environment, deadline):
    """The post commands, up to the first that fails. What they say of themselves is kept beside what
    mixlab has done."""
    texts, result = [], {}
    for at, command in enumerate(post):
        try:
            done, late = run(expanded(command, environment), f"post[{at}]", environment, deadline)
        except Wrong as wrong:
            result["post_error"] = dict(error=str(wrong), cmd=command)
            break
        texts.append(done["stdout"])
        if late or done["exit_code"]:
            result["post_error"] = failure(f"post[{at}]", command, done, late)
            break
    return dict(result, post_stdout="".join(texts)) if post else result


def failure(label, command, done, late):
    reason = "timeout" if late else f"{label} failed with exit code {done['exit_code']}"
    return dict(done, error=reason, cmd=command)


def handler(event):
    """One job: a result that can be sent back as JSON, whatever happens."""
    try:
        job = event.get("input")
        if job is None:
            job = {}
        if not isinstance(job, dict):
            raise Wrong(f"input is {json.dumps(job)[:80]}, not an object")
        with tempfile.TemporaryDirectory(prefix="mixlab-") as folder:
            return work(job, folder)
    except Exception as error:  # A worker that raises is restarted, and the job is lost.
        return {"error": str(error) or type(error).__name__}


if __name__ == "__main__":
    import runpod

    sys.stdout.reconfigure(line_buffering=True)
    runpod.serverless.start({"handler": handler})
