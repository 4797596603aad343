"""bit-axon run --chat: through a pipe as a script uses it, and on a terminal as people do."""
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

from support import Case, ERROR, PROGRAM, SANITIZED, environment, main

GREEDY = ["--temperature", "0"]
PATIENCE = 120 if SANITIZED else 30  # seconds


def numbers(stats):
    """turns, position, context, prompt tokens and answer tokens of the last turn, for each /stats line"""
    pattern = (r"(\d+) turns?, (\d+) of (\d+) tokens of context; "
               r"last turn: (\d+) new prompt tokens? at .*, (\d+) generated")
    return [tuple(map(int, found)) for found in re.findall(pattern, stats)]


class Piped(Case):
    def chat(self, lines, *args):
        return self.succeed("run", "--chat", *args, stdin=lines)

    def test_a_turn_reads_only_what_is_new_and_answers_as_if_it_had_read_all(self):
        first, second = "Tell me about a fox.", "And what about the river?"
        chat = self.chat(f"{first}\n/stats\n{second}\n/stats\n", "-n", "12", *GREEDY, "--exact")
        one, two = numbers(chat.err)
        turn = self.answer("-n", "1", second)["prompt_tokens"]
        # What is new: the turn in its template, the end of the last answer, and its last token, which nothing followed.
        self.assertLessEqual(two[3], turn + 3)
        self.assertEqual((one[0], two[0], one[2]), (1, 2, 65536))
        self.assertEqual(two[1], one[1] + two[3] + two[4] - 1)

        def said(*turns):
            out = "".join(f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answer}"
                          for asked, answer in turns)
            return self.answer("-n", "12", *GREEDY, "--exact", "--raw", out)["text"]
        answer = said((first, ""))
        follow = said((first, answer + "<|im_end|>\n"), (second, ""))
        self.assertEqual(chat.out, f"{answer}\n{follow}\n")

    def test_reset_forgets(self):
        chat = self.chat("Tell me about a fox.\nHello\n/reset\n/stats\nTell me about a fox.\n/stats\n", "-n", "8",
                         *GREEDY)
        forgotten, again = numbers(chat.err)
        self.assertEqual(forgotten[:2], (0, 0))
        self.assertEqual(again[0], 1)
        lone = self.chat("Tell me about a fox.\n/stats\n", "-n", "8", *GREEDY)
        self.assertTrue(chat.out.endswith(lone.out))
        self.assertEqual(numbers(lone.err)[0], again)

    def test_the_system_message_comes_once_and_again_after_a_reset(self):
        script = "Hello\n/stats\nHello\n/stats\n/reset\nHello\n/stats\n"
        plain = numbers(self.chat(script, "-n", "2", *GREEDY).err)
        system = numbers(self.chat(script, "-n", "2", *GREEDY, "--system", "You are a pirate.").err)
        extra = [s[3] - p[3] for s, p in zip(system, plain)]
        self.assertGreater(extra[0], 4)
        self.assertEqual(extra, [extra[0], 0, extra[0]])

    def test_the_prompt_argument_is_the_first_turn(self):
        with_argument = self.chat("Why?\n", "-n", "5", *GREEDY, "Tell me about a fox.")
        self.assertEqual(with_argument.out, self.chat("Tell me about a fox.\nWhy?\n", "-n", "5", *GREEDY).out)

    def test_commands(self):
        for leave in ("/exit", "/quit", "exit"):
            self.assertEqual(self.chat(f"{leave}\nHello\n").out, "")
        chat = self.chat("/what\n\n   \n/stats\n")
        self.assertEqual(chat.out, "")
        self.assertIn("unknown command /what", chat.err)
        self.assertIn("/reset", chat.err)
        self.assertIn("memory: planned", chat.err)

    def test_the_end_of_input_leaves(self):
        self.assertEqual(self.chat("").out, "")
        last = self.chat("Hello", "-n", "3", *GREEDY)
        self.assertEqual(last.out, self.chat("Hello\r\n", "-n", "3", *GREEDY).out)

    def test_a_bad_turn_is_refused_and_the_chat_goes_on(self):
        good = self.chat("Hello\n/stats\n", "-n", "3", *GREEDY, "--context", "40")
        for bad, words in ((b"ab\xff", ["UTF-8", "byte 2"]), (b"word " * 60, ["40", "/reset"]), (b"x" * 70000, ["40"])):
            mixed = self.chat(bad + b"\nHello\n/stats\n", "-n", "3", *GREEDY, "--context", "40")
            for word in words:
                self.assertIn(word, mixed.err)
            self.assertEqual(mixed.out, good.out)
            self.assertEqual(numbers(mixed.err), numbers(good.err))

    def test_a_full_context_is_refused_until_a_reset(self):
        chat = self.chat("Hello\nHello\nHello\nHello\n/reset\nHello\n", "-n", "4", *GREEDY, "--context", "40")
        self.assertIn("/reset", chat.err)
        answers = chat.out.splitlines()
        self.assertLess(len(answers), 5)
        self.assertEqual(answers[0], answers[-1])

    def test_sigterm_ends_it_waiting_or_answering(self):
        for line in (b"", b"Tell me a long story.\n"):
            with subprocess.Popen([PROGRAM, "run", "--chat", "-n", "60000", "--temperature", "1.2",
                                   "ready?" if not line else line],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  env=environment()) as process:
                process.stdout.read(1)
                if not line:
                    time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(timeout=PATIENCE), ERROR)


class Terminal(Case):
    """The program on a pseudo terminal: what people see and what their keys do."""

    def start(self, *args):
        self.keys, terminal = pty.openpty()
        settings = termios.tcgetattr(terminal)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(terminal, termios.TCSANOW, settings)

        def own_terminal():
            os.setsid()
            os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first terminal that a session opens is its own
        self.process = subprocess.Popen([PROGRAM, "run", "--chat", *args], stdin=terminal, stdout=terminal,
                                        stderr=terminal, env=environment(), preexec_fn=own_terminal)
        os.close(terminal)
        self.seen = ""
        self.addCleanup(self.stop)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.keys)

    def type(self, text):
        os.write(self.keys, text.encode())

    def wait_for(self, pattern):
        """Reads until the text since the last call has `pattern`; gives that text."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.keys], [], [], max(0.0, deadline - time.monotonic()))
            self.assertTrue(ready, f"{pattern!r} did not come, but {self.seen!r}")
            try:
                self.seen += os.read(self.keys, 65536).decode(errors="replace")
            except OSError:
                self.fail(f"{pattern!r} did not come before the end, but {self.seen!r}")
        text, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return text

    def assert_idle(self):
        """Who waits for a line takes no processor: no thread spins. The clock of /proc ticks every 10 ms."""
        def seconds():
            with open(f"/proc/{self.process.pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # of all threads, user and system
        time.sleep(0.1)
        before, start = seconds(), time.monotonic()
        time.sleep(2)
        share = (seconds() - before) / (time.monotonic() - start)
        self.assertLess(share, 0.02, f"{share:.1%} of a core while waiting")

    def leave(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            ready, _, _ = select.select([self.keys], [], [], 0.05)
            try:
                self.seen += os.read(self.keys, 65536).decode(errors="replace") if ready else ""
            except OSError:
                break
        return self.process.wait(timeout=PATIENCE)

    def test_turns_and_leaving(self):
        self.start("-n", "5", *GREEDY)
        self.assertIn("/reset", self.wait_for("You: "))
        self.type("Hello\n")
        self.wait_for("Assistant: ")
        self.wait_for("You: ")
        self.type("/stats\n")
        stats = self.wait_for("You: ")
        self.assertEqual(numbers(stats)[0][0], 1)
        self.type("\x04")
        self.assertEqual(self.leave(), 0)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        self.start("-n", "60000", "--temperature", "1.5", "--top-p", "1", "--top-k", "0", "--seed", "1")
        self.wait_for("You: ")
        for turn in range(2):
            self.type("Tell me the longest story that you know.\n")
            self.wait_for(r"Assistant: [^\n]*\w")
            self.type("\x03")
            self.wait_for("You: ")
        self.type("/stats\n")
        turns, position, _, prompt, answer = numbers(self.wait_for("You: "))[0]
        self.assertEqual(turns, 2)
        self.assertLess(answer, 50000)
        self.assertGreater(position, prompt)
        self.type("/exit\n")
        self.assertEqual(self.leave(), 0)

    def test_waiting_takes_no_processor(self):
        self.start("--threads", "2", "-n", "5", *GREEDY)
        self.wait_for("You: ")
        self.type("Hello\n")
        self.wait_for("Assistant: ")
        self.wait_for("You: ")
        self.assert_idle()
        self.type("/exit\n")
        self.assertEqual(self.leave(), 0)

    def test_waiting_after_ctrl_c_takes_no_processor(self):
        self.start("--threads", "2", "-n", "60000", "--temperature", "1.5", "--top-p", "1", "--top-k", "0", "--seed", "1")
        self.wait_for("You: ")
        self.type("Tell me the longest story that you know.\n")
        self.wait_for(r"Assistant: [^\n]*\w")
        self.type("\x03")
        self.wait_for("You: ")
        self.assert_idle()
        self.type("/exit\n")
        self.assertEqual(self.leave(), 0)

    def test_ctrl_c_at_the_prompt_tells_how_to_leave(self):
        self.start()
        self.wait_for("You: ")
        self.type("\x03")
        self.wait_for("/exit")
        self.wait_for("You: ")
        self.type("/exit\n")
        self.assertEqual(self.leave(), 0)


if __name__ == "__main__":
    main()
