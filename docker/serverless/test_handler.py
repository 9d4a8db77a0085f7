"""Tests of handler.py: `python3 docker/serverless/test_handler.py`. A small program stands for mixlab."""

import contextlib
import io
import json
import os
import stat
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import handler

# Prints its arguments as JSON, and whatever else a test wants of it.
PROGRAM = f"""#!{sys.executable}
import json, os, signal, subprocess, sys, time
print(json.dumps(sys.argv[1:]), flush=True)
print(json.dumps(os.environ.get("MIXLAB_CONFIG")), flush=True)
action = os.environ.get("ACTION", "")
if action == "big":
    sys.stderr.write("e" * 3_000_000)
    sys.stdout.write("o" * 3_000_000)
if action == "sleep":
    def leave(*_):
        print("weights written", flush=True)
        sys.exit(143)
    signal.signal(signal.SIGTERM, leave)
    print("first line", flush=True)
    time.sleep(60)
if action == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
if action == "child":
    subprocess.Popen(["sleep", "60"])
if action == "daemon":
    subprocess.Popen(["sleep", "60"], start_new_session=True)
sys.exit(int(os.environ.get("CODE", "0")))
"""


class Handler(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="a folder with spaces ")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        program = os.path.join(folder.name, "mixlab")
        with open(program, "w") as file:
            file.write(PROGRAM)
        os.chmod(program, os.stat(program).st_mode | stat.S_IXUSR)
        self.replace(handler, "PROGRAM", program)
        self.replace(tempfile, "tempdir", folder.name)

    def replace(self, module, name, value):
        before = getattr(module, name)
        setattr(module, name, value)
        self.addCleanup(setattr, module, name, before)

    def set(self, name, value):
        os.environ[name] = value
        self.addCleanup(os.environ.pop, name, None)

    def do(self, **job):
        """The result of a job, its log, and how long it took."""
        log, start = io.StringIO(), time.monotonic()
        with contextlib.redirect_stdout(log):
            result = handler.handler({"input": job})
        json.dumps(result)
        return result, log.getvalue(), time.monotonic() - start

    def flags(self, **job):
        result, _, _ = self.do(**job)
        self.assertEqual(result["exit_code"], 0, result)
        return json.loads(result["stdout"].splitlines()[0])

    def test_no_input_is_a_smoke_run(self):
        self.assertEqual(self.flags(), ["smoke"])

    def test_every_field_is_a_flag(self):
        job = dict(mode="generate", config="c.json", max_tokens=0, temperature=0.5, eval=True, timing=False,
                   stop=["a b", "-c"], prompt="say $HOME \"x\"", lut_dir="", quantize=None, args=["--json"])
        self.assertEqual(self.flags(**job), [
            "generate", "--config=c.json", "--max-tokens=0", "--temperature=0.5", "--eval",
            "--stop=a b", "--stop=-c", "--prompt=say $HOME \"x\"", "--json"])

    def test_a_config_of_the_job_is_a_file_while_it_runs(self):
        config = {"model_dim": 8, "name": "ä"}
        result, _, _ = self.do(mode="arch", config_json=config, post=['cat "$MIXLAB_CONFIG"'])
        flag, path = json.loads(result["stdout"].splitlines()[0])[1:], json.loads(result["stdout"].splitlines()[1])
        self.assertEqual(flag, [f"--config={path}"])
        self.assertEqual(json.loads(result["post_stdout"]), config)
        self.assertFalse(os.path.exists(path))

    def test_a_config_by_name_comes_first(self):
        self.assertEqual(self.flags(config="c.json", config_json={"a": 1}), ["smoke", "--config=c.json"])

    def test_commands_expand_variables_without_splitting(self):
        list_form = [sys.executable, "-c", "import sys; print(len(sys.argv), sys.argv[1] == sys.argv[2])",
                     "$MIXLAB_CONFIG", "${MIXLAB_CONFIG}"]
        result, _, _ = self.do(config_json={}, post=[list_form, 'test -f "$MIXLAB_CONFIG" && echo there'])
        self.assertIn(" ", self.folder)
        self.assertEqual(result["post_stdout"], "3 True\nthere\n")

    def test_the_config_is_not_known_to_setup(self):
        result, _, _ = self.do(config_json={}, setup=['echo "[$MIXLAB_CONFIG]"'])
        self.assertEqual(result["setup_stdout"], "[]\n")

    def test_a_failing_setup_ends_the_job(self):
        result, log, _ = self.do(setup=["echo out; echo err >&2; exit 3", "echo never"])
        self.assertEqual((result["exit_code"], result["stdout"], result["stderr"]), (3, "out\n", "err\n"))
        self.assertIn("setup[0]", result["error"])
        self.assertNotIn("[mixlab]", log)
        self.assertNotIn("never", log.replace("echo never", ""))

    def test_post_runs_after_a_failing_mixlab_and_ends_at_its_own_failure(self):
        self.set("CODE", "2")
        result, _, _ = self.do(post=["echo one", "exit 4", "echo two"])
        self.assertEqual((result["exit_code"], result["post_stdout"]), (2, "one\n"))
        self.assertEqual((result["post_error"]["exit_code"], result["post_error"]["cmd"]), (4, "exit 4"))
        self.assertNotIn("error", result)

    def test_a_post_command_that_cannot_start_keeps_the_result(self):
        result, _, _ = self.do(post=[["/no/such/program"]])
        self.assertEqual(result["exit_code"], 0)
        self.assertIn("/no/such/program", result["post_error"]["error"])

    def test_both_pipes_are_drained(self):
        self.set("ACTION", "big")
        result, _, took = self.do(timeout=30)
        self.assertEqual(result["exit_code"], 0)
        self.assertLess(took, 25)
        for name in ("stdout", "stderr"):
            self.assertLess(len(result[name]), handler.KEPT + 100)
            self.assertIn("left out", result[name][:100])

    def test_lines_are_logged_while_it_runs(self):
        self.set("ACTION", "sleep")
        times = []

        class Log(io.StringIO):
            def write(self, text):
                if "first line" in text:
                    times.append(time.monotonic())
                return super().write(text)

        start = time.monotonic()
        with contextlib.redirect_stdout(Log()):
            handler.handler({"input": {"timeout": 4}})
        self.assertLess(times[0] - start, 3.5)

    def test_the_time_ends_mixlab_but_not_its_weights_nor_post(self):
        self.set("ACTION", "sleep")
        result, _, took = self.do(timeout=2, post=["echo uploaded"])
        self.assertEqual((result["error"], result["exit_code"], result["post_stdout"]), ("timeout", 143, "uploaded\n"))
        self.assertIn("weights written", result["stdout"])
        self.assertLess(took, 30)

    def test_what_does_not_listen_is_killed(self):
        self.set("ACTION", "stubborn")
        self.replace(handler, "GRACE", 0.5)
        result, _, took = self.do(timeout=1)
        self.assertEqual((result["error"], result["exit_code"]), ("timeout", -9))
        self.assertLess(took, 30)

    def test_a_setup_that_takes_too_long_is_ended(self):
        result, _, took = self.do(timeout=1, setup=["sleep 60 | cat"])
        self.assertEqual(result["error"], "timeout")
        self.assertLess(took, 30)

    def test_a_child_that_keeps_the_pipe_open_holds_nothing_up(self):
        for action in ("child", "daemon"):
            self.set("ACTION", action)
            result, _, took = self.do(timeout=50)
            self.assertEqual(result["exit_code"], 0, action)
            self.assertNotIn("error", result, action)
            self.assertLess(took, 30, action)

    def test_what_cannot_be_done_is_said(self):
        for job, word in [
            (dict(timeout=0), "timeout is 0"), (dict(timeout="long"), 'timeout is "long"'),
            (dict(setup="ls"), "setup"), (dict(post=[3]), "post[0] is 3"), (dict(setup=[[]]), "setup[0]"),
            (dict(mode="-x"), "mode"), (dict(config_json=[1]), "config_json is [1]"),
            (dict(config={"model_dim": 8}), "an object is config_json"),
            (dict(train={"a": 1}), "train is an object"), (dict(args="x"), "args"), ({"a b": 1}, "a b"),
        ]:
            result, log, _ = self.do(**job)
            self.assertEqual(list(result), ["error"], job)
            self.assertIn(word, result["error"])
            self.assertNotIn("[mixlab]", log)
        self.assertIn("input is [1]", handler.handler({"input": [1]})["error"])
        self.replace(handler, "PROGRAM", "/no/mixlab")
        self.assertIn("/no/mixlab", self.do()[0]["error"])


if __name__ == "__main__":
    unittest.main()
