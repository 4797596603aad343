"""run --state: a conversation in a file, gone on with as if it had never stopped."""
import os
import re
import signal
import subprocess

from support import (Case, ERROR, MIB, PROGRAM, SANITIZED, TINY, USAGE, environment, main, read_safetensors, snapshot,
                     write_safetensors)

GREEDY = ["--temperature", "0"]
FIRST, SECOND, THIRD = "Tell me about a fox.", "And what about the river?", "Why?"


class Steps(Case):
    def test_steps_equal_a_chat_and_one_step(self):
        for kv in ("fp16", "tq3"):
            options = ["--kv", kv, "--exact", "-n", "24", *GREEDY]
            path = self.folder / f"steps-{kv}"
            said = [self.answer("--state", path, *options, turn) for turn in (FIRST, SECOND, THIRD)]
            chat = self.succeed("run", "--chat", *options, stdin=f"{FIRST}\n{SECOND}\n{THIRD}\n")
            self.assertEqual(chat.out, "".join(step["text"] + "\n" for step in said))
            # The whole conversation, typed as one prompt.
            text = ""
            for turn, step in zip((FIRST, SECOND, THIRD), said):
                text += f"<|im_start|>user\n{turn}<|im_end|>\n<|im_start|>assistant\n"
                whole = self.answer(*options, "--raw", text)
                self.assertEqual(step["token_ids"], whole["token_ids"], kv)
                text += step["text"] + "<|im_end|>\n"
            tokens = 0
            for step in said:
                self.assertEqual(step["state"]["file"], str(path))
                self.assertEqual(step["state"]["restored_tokens"], tokens)
                self.assertTrue(step["state"]["saved"])
                tokens = step["state"]["tokens"]
                self.assertEqual(step["memory"]["planned_bytes"], step["memory"]["ledger_peak_bytes"])
                if not SANITIZED:
                    self.assertLessEqual(step["memory"]["resident_peak_bytes"],
                                         step["memory"]["planned_bytes"] * 1.02 + 8 * MIB)

    def test_far_past_the_window(self):
        model = self.new_model("tiny", *TINY)
        words = "the fox went over the hill and saw the river " * 12
        for kv in ("fp16", "q8", "fp32"):
            options = ["-m", model, "--kv", kv, "--raw", *GREEDY]
            steps = []
            for prompt in (words, "", ""):  # the raw text goes on
                answer = self.answer(*options, "--state", self.folder / f"far-{kv}", "-n", "20", prompt)
                steps += answer["token_ids"]
            self.assertEqual(steps, self.answer(*options, "-n", "60", words)["token_ids"], kv)
        self.fail_with(ERROR, ["the prompt is empty"], "run", *options, "--state", self.folder / "none", "")

    def test_a_chat_goes_on_and_is_gone_on_with(self):
        path = self.folder / "chat"
        options = ["-n", "12", *GREEDY]
        whole = self.succeed("run", "--chat", *options, stdin=f"{FIRST}\n{SECOND}\n{THIRD}\n").out
        one = self.succeed("run", "--chat", "--state", path, *options, stdin=f"{FIRST}\n/stats\n/exit\n")
        self.assertEqual(len(re.findall(r"state: .*chat, \d+ tokens remembered", one.err)), 2)
        before = snapshot(self.folder)
        idle = self.succeed("run", "--chat", "--state", path, *options, stdin="/stats\n")
        self.assertRegex(idle.err, r"state: .*chat, \d+ tokens remembered")
        self.assertEqual(snapshot(self.folder), before)  # nothing was said: nothing is written
        two = self.succeed("run", "--state", path, *options, SECOND)
        three = self.succeed("run", "--chat", "--state", path, *options, stdin=f"{THIRD}\n")
        self.assertEqual(one.out + two.out + three.out, whole)
        forgotten = self.succeed("run", "--chat", "--state", path, *options, stdin=f"/reset\n{FIRST}\n")
        self.assertEqual(forgotten.out, one.out)

    def test_the_repetition_penalty_counts_what_was_said_before(self):
        options = ["-n", "12", "--repetition-penalty", "1.6", *GREEDY]
        whole = self.succeed("run", "--chat", *options, stdin=f"{FIRST}\n{FIRST}\n").out
        path = self.folder / "penalty"
        steps = [self.succeed("run", "--state", path, *options, FIRST).out for _ in range(2)]
        self.assertEqual("".join(steps), whole)

    def test_a_system_message_begins_a_conversation_and_may_be_repeated(self):
        path = self.folder / "system"
        options = ["--state", path, "-n", "4", *GREEDY]
        for _ in range(2):
            self.succeed("run", *options, "--system", "You are a pirate.", FIRST)
        self.succeed("run", *options, FIRST)
        self.fail_with(ERROR, ["--system", path, "another"], "run", *options, "--system", "You are a king.", FIRST)

    def test_a_stopped_answer_is_kept(self):
        path = self.folder / "stopped"
        for arguments, lines in (([], None), (["--chat"], b"")):
            path.unlink(missing_ok=True)
            with subprocess.Popen([PROGRAM, "run", *arguments, "--state", path, "-n", "20000", "--temperature", "1.5",
                                   "--top-p", "1", "--top-k", "0", "--seed", "1", "Tell me a long story."],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=environment()) as process:
                process.stdout.read(1)
                process.send_signal(signal.SIGTERM)
                _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, ERROR, err)
            self.assertIn(b"tokens remembered", err)
            self.assertGreater(self.answer("--state", path, "-n", "2", "Go on.")["state"]["restored_tokens"], 5)


class Refusals(Case):
    def setUp(self):
        self.path = self.folder / "state"
        self.path.unlink(missing_ok=True)
        self.answer("--state", self.path, "-n", "8", *GREEDY, FIRST)
        self.before = snapshot(self.folder)

    def refused(self, words, *args, code=ERROR):
        done = self.fail_with(code, words, "run", "--state", self.path, "-n", "8", *args, SECOND)
        self.assertEqual(snapshot(self.folder), self.before)
        return done

    def test_other_models_weights_and_options(self):
        for seed in ("7", "8"):
            self.succeed("init", "--preset", "nano", "--seed", seed, "-o", self.folder / f"seed-{seed}")
        one = self.folder / "of-seed-7"
        self.answer("-m", self.folder / "seed-7", "--state", one, "-n", "2", FIRST)
        self.before = snapshot(self.folder)
        self.refused([self.path, "another model", "bit-axon-nano, --weights keep"], "-m", self.folder / "seed-7")
        self.path = one
        self.refused([one, "another model", "seed-7"], "-m", self.folder / "seed-8")  # the same shapes
        self.path = self.folder / "state"
        self.refused(["precision", "--weights keep"], "--weights", "q8")
        self.refused(["fp16", "tq3", "--kv fp16"], "--kv", "tq3")
        self.refused(["512", "300", "--attention-window 512"], "--attention-window", "300")
        self.refused(["512", "100", "--context 65536"], "--context", "100")
        self.answer("--state", self.path, "-n", "8", "--context", "1000", "--threads", "1", "--exact", "--kv", "fp16",
                    SECOND)  # what does not change the ring does not matter

    def test_a_full_context(self):
        path = self.folder / "full"
        options = ["--context", "60", "-n", "16", *GREEDY, "--state", path]
        self.answer(*options, FIRST)
        before = snapshot(self.folder)
        self.fail_with(ERROR, ["60", "remembered", "--max-tokens is 16"], "run", *options, SECOND + " " + SECOND)
        self.assertEqual(snapshot(self.folder), before)

    def test_damaged_and_foreign_files(self):
        good = self.path.read_bytes()
        for size in (0, 7, 300, len(good) // 2, len(good) - 1):
            self.path.write_bytes(good[:size])
            self.before = snapshot(self.folder)
            self.refused([self.path])
        for at in (len(good) // 2, len(good) - 1):
            self.path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
            self.before = snapshot(self.folder)
            self.refused([self.path, "checksum"])
        self.path.write_bytes(good)
        header, data = read_safetensors(self.path)
        for key, value, words in (("position", "70000", ["70000", "65536"]), ("version", "2", ["version"]),
                                  ("format", "x", ["no saved state"]), ("position", "-1", ["position", "-1"])):
            changed = dict(header, __metadata__=dict(header["__metadata__"], **{key: value}))
            write_safetensors(self.path, changed, data)
            self.before = snapshot(self.folder)
            self.refused([self.path, *words])
        write_safetensors(self.path, {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"x")
        self.before = snapshot(self.folder)
        self.refused([self.path, "no saved state"])

    def test_what_cannot_be_written_is_said_before_anything_is_read(self):
        self.fail_with(ERROR, ["nowhere/state"], "run", "--state", self.folder / "nowhere/state", FIRST)
        self.fail_with(ERROR, [str(self.folder)], "run", "--state", self.folder, FIRST)
        self.fail_with(USAGE, ["--state"], "run", "--state", "", FIRST)
        self.assertEqual(snapshot(self.folder), self.before)

    def test_a_disk_that_fills_up_leaves_the_older_file(self):
        # A limit on the size of files stands in for a full disk.
        done = subprocess.run(["bash", "-c", 'trap "" XFSZ; ulimit -f 512; exec "$@"', "-", PROGRAM, "run", "--state",
                               self.path, "-n", "8", *GREEDY, SECOND], capture_output=True, env=environment())
        self.assertEqual(done.returncode, ERROR, done.stderr)
        self.assertIn(str(self.path).encode(), done.stderr)
        self.assertTrue(done.stdout)
        self.assertEqual(snapshot(self.folder), self.before)


if __name__ == "__main__":
    main()
