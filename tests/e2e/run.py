"""bit-axon run: what goes in, what comes out, and what may not change it."""
import re
import signal
import subprocess

from support import Case, ERROR, MODEL, PROGRAM, USAGE, environment, main

GREEDY = ["--temperature", "0"]
PROMPT = "Tell me a story about a fox and a river."


class Output(Case):
    def test_json_has_the_promised_keys(self):
        answer = self.answer("-n", "6", "--seed", "7", PROMPT)
        types = {"text": str, "token_ids": list, "finish_reason": str, "prompt_tokens": int, "completion_tokens": int,
                 "seed": int, "memory": dict, "threads": int, "cpu": str, "time_to_first_token_seconds": float,
                 "decode_seconds": float, "prefill_tokens_per_second": float, "decode_tokens_per_second": float}
        for key, kind in types.items():
            self.assertIsInstance(answer[key], kind, key)
        for key in ("planned_bytes", "ledger_peak_bytes", "resident_peak_bytes", "budget_bytes"):
            self.assertIsInstance(answer["memory"][key], int, key)
        for line in answer["memory"]["accounts"]:
            self.assertEqual(set(line), {"account", "planned_bytes", "peak_bytes"})
        self.assertEqual(answer["seed"], 7)
        self.assertIn(answer["finish_reason"], ("stop", "length"))
        self.assertEqual(len(answer["token_ids"]), answer["completion_tokens"])

    def test_stdout_holds_the_answer_and_nothing_else(self):
        text = self.answer("-n", "10", *GREEDY, PROMPT)["text"]
        streamed = self.succeed("run", "-n", "10", *GREEDY, PROMPT)
        self.assertEqual(streamed.out, text + "\n")
        self.assertRegex(streamed.err, r"\d+ prompt tokens at .*tokens/s, 10 generated")
        self.assertRegex(streamed.err, r"memory: planned .* MiB, ledger peak .* \(equal to the byte\)")
        whole = self.succeed("run", "-n", "10", *GREEDY, "--no-stream", PROMPT)
        self.assertEqual(whole.out, streamed.out)

    def test_a_large_kv_cache_names_smaller_ones(self):
        args = ("run", "hi", "--max-tokens", "1", "--attention-window", "all")
        wide = self.succeed(*args).err
        self.assertRegex(wide, r"kv cache: \S+ MiB, fp16; --kv q8 saves \S+ MiB \(perplexity .* %\), tq4 saves ")
        self.assertRegex(self.succeed(*args, "--kv", "q8").err, r"kv cache: \S+ MiB, q8; --kv tq4 saves ")
        self.assertNotIn("kv cache:", self.succeed("run", "hi", "--max-tokens", "1").err)

    def test_the_answer_comes_while_it_is_made(self):
        with subprocess.Popen([PROGRAM, "run", "-n", "400", "--seed", "1", "Tell me a long story."],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()) as process:
            self.assertTrue(process.stdout.read(1))
            self.assertIsNone(process.poll(), "the first character came only at the end")
            process.kill()

    def test_an_output_that_cannot_be_written_is_an_error(self):
        for args in (["run", "-n", "2", "hi"], ["run", "-n", "2", "--json", "hi"], ["plan"], ["inspect", "--json"],
                     ["--help"], ["run", "--help"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([PROGRAM, *args], stdout=full, stderr=subprocess.PIPE, env=environment())
            self.assertEqual(done.returncode, ERROR, args)
            self.assertIn(b"standard output", done.stderr)

    def test_a_signal_ends_the_answer(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with subprocess.Popen([PROGRAM, "run", "-n", "20000", "--raw", "--seed", "3", "One, two, three, four,"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
                process.stdout.read(1)
                process.send_signal(number)
                _, err = process.communicate(timeout=20)
            self.assertEqual(process.returncode, ERROR, err)
            self.assertIn(b"memory: planned", err)


class Prompt(Case):
    def test_argument_and_stdin_are_the_same(self):
        given = self.answer("-n", "4", *GREEDY, PROMPT)
        for text in (PROMPT, PROMPT + "\n"):
            piped = self.answer("-n", "4", *GREEDY, stdin=text)
            self.assertEqual((piped["token_ids"], piped["prompt_tokens"]), (given["token_ids"], given["prompt_tokens"]))

    def test_template_system_and_raw(self):
        raw = self.answer("-n", "1", "--raw", PROMPT)["prompt_tokens"]
        chat = self.answer("-n", "1", PROMPT)["prompt_tokens"]
        system = self.answer("-n", "1", "--system", "You are a pirate.", PROMPT)["prompt_tokens"]
        self.assertLess(raw, chat)
        self.assertLess(chat + 4, system)
        spelled = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
        self.assertEqual(self.answer("-n", "6", *GREEDY, "--raw", spelled)["token_ids"],
                         self.answer("-n", "6", *GREEDY, PROMPT)["token_ids"])

    def test_any_unicode(self):
        for text in ("Hello 😀👩‍👩‍👧 emoji", "ça va? été", "日本語のお話", "\u202eright to left\u202c",
                     "tab\tand\nnewline"):
            self.succeed("run", "-n", "3", "--seed", "1", text)

    def test_invalid_utf8_names_the_byte_of_the_prompt(self):
        for text, at in ((b"h\xffi", 1), (b"ab\xe2\x28", 2), (b"abc\xf0\x9f\x98", 3), (b"\xed\xa0\x80", 0)):
            for extra in ([], ["--raw"], ["--system", "Be short."]):
                self.fail_with(ERROR, ["UTF-8", f"byte {at}"], "run", *extra, text)
            self.fail_with(ERROR, ["UTF-8", f"byte {at}"], "run", stdin=text)
        self.fail_with(ERROR, ["system", "UTF-8", "byte 2"], "run", "--system", b"ab\xff", "hi")

    def test_empty_prompt(self):
        self.fail_with(ERROR, ["prompt", "empty"], "run", "")
        self.fail_with(ERROR, ["prompt", "empty"], "run", stdin=b"")
        self.fail_with(ERROR, ["prompt", "empty"], "run", stdin=b"\n")
        self.fail_with(ERROR, ["prompt", "empty"], "run", "--raw", "")

    def test_more_than_the_context_is_refused_with_both_numbers(self):
        tokens = self.answer("-n", "1", PROMPT)["prompt_tokens"]
        self.fail_with(ERROR, [f"{tokens} tokens", "70000", "65536"], "run", "-n", "70000", PROMPT)
        self.fail_with(ERROR, [f"{tokens} tokens", "5", f"{tokens + 4}"], "run", "--context", tokens + 4, "-n", "5",
                       PROMPT)
        self.assertEqual(self.answer("--context", tokens + 4, "-n", "4", *GREEDY, "--raw",
                                     spelled(PROMPT))["prompt_tokens"],
                         tokens)
        self.fail_with(ERROR, ["65536", "70000"], "run", "--context", "70000", PROMPT)


def spelled(prompt):
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


class Sampling(Case):
    def test_a_seed_decides_the_answer(self):
        first, again, other = (self.answer("-n", "16", "--seed", s, "--temperature", "1", PROMPT) for s in (5, 5, 6))
        self.assertEqual(first["token_ids"], again["token_ids"])
        self.assertNotEqual(first["token_ids"], other["token_ids"])

    def test_a_random_seed_is_told_and_can_be_repeated(self):
        first, second = (self.answer("-n", "8", PROMPT) for _ in range(2))
        self.assertNotEqual(first["seed"], second["seed"])
        self.assertEqual(self.answer("-n", "8", "--seed", first["seed"], PROMPT)["text"], first["text"])

    def test_choices_that_leave_one_token_are_greedy(self):
        want = self.answer("-n", "8", *GREEDY, PROMPT)["token_ids"]
        for args in (["--top-k", "1"], ["--top-p", "0"], ["--min-p", "1"]):
            self.assertEqual(self.answer("-n", "8", "--seed", "1", "--temperature", "1.5", *args, PROMPT)["token_ids"],
                             want)

    def test_max_tokens_and_the_reason_for_the_end(self):
        answer = self.answer("-n", "3", *GREEDY, PROMPT)
        self.assertEqual((answer["completion_tokens"], answer["finish_reason"]), (3, "length"))

    def test_stop_texts_end_the_answer_and_are_not_in_it(self):
        text = self.answer("-n", "40", *GREEDY, PROMPT)["text"]
        words = re.findall(r"[A-Za-z]{4,}", text)
        late, early = words[len(words) // 2], words[3]
        end = min(text.index(late), text.index(early))
        stopped = self.answer("-n", "40", *GREEDY, "--stop", late, PROMPT)
        self.assertEqual((stopped["text"], stopped["finish_reason"]), (text[:text.index(late)], "stop"))
        both = ["-n", "40", *GREEDY, "--stop", late, "--stop", early, PROMPT]
        self.assertEqual(self.answer(*both)["text"], text[:end])
        self.assertEqual(self.succeed("run", *both).out, text[:end] + "\n")
        # A text that is cut by token borders, and one that never comes.
        inner = text[5:12]
        self.assertEqual(self.answer("-n", "40", *GREEDY, "--stop", inner, PROMPT)["text"], text[:text.index(inner)])
        self.assertEqual(self.answer("-n", "40", *GREEDY, "--stop", text[:6] + "\x01", PROMPT)["text"], text)

    def test_wrong_numbers_are_refused(self):
        for name, value in (("--temperature", "-1"), ("--temperature", "nan"), ("--top-p", "-0.1"), ("--top-p", "1.5"),
                            ("--min-p", "2"), ("--repetition-penalty", "0"), ("--max-tokens", "0"),
                            ("--max-tokens", "-3"),
                            ("--prefill-chunk", "0"), ("--threads", "-1"), ("--threads", "5000"), ("--seed", "x"),
                            ("--context", "-5"), ("--top-k", "-1"), ("--seed", "-1"), ("--weights", "q9")):
            ended = self.call("run", name, value, "hi")
            self.assertIn(ended.code, (ERROR, USAGE), f"{name} {value}: {ended}")
            self.assertIn(name if name != "--weights" else value, ended.err)
            self.assertNotIn("18446744073709551", ended.err)


class Arithmetic(Case):
    def test_exact_answers_depend_on_neither_threads_nor_chunks(self):
        answers = {}
        for threads in (1, 2):
            for chunk in (1, 7, 256):
                args = ["-n", "8", *GREEDY, "--exact", "--threads", threads, "--prefill-chunk", chunk]
                answers[threads, chunk] = self.answer(*args, PROMPT)["token_ids"]
        self.assertEqual(len(set(map(tuple, answers.values()))), 1, answers)

    def test_fast_answers_do_not_depend_on_threads(self):
        one, two = (self.answer("-n", "12", *GREEDY, "--threads", t, PROMPT) for t in (1, 2))
        self.assertEqual(one["token_ids"], two["token_ids"])
        self.assertEqual((one["threads"], two["threads"]), (1, 2))

    def test_every_cpu_level_gives_the_same_exact_answer(self):
        message = self.fail_with(USAGE, ["fortran"], "run", "hi", env={"BIT_AXON_CPU": "fortran"}).err
        levels = re.search(r"this processor has (.*)", message).group(1).strip().split(", ")
        self.assertIn("scalar", levels)
        answers = {}
        for level in levels:
            answer = self.answer("-n", "6", *GREEDY, "--exact", PROMPT, env={"BIT_AXON_CPU": level})
            self.assertEqual(answer["cpu"], level)
            answers[level] = tuple(answer["token_ids"])
            self.succeed("run", "-n", "2", *GREEDY, PROMPT, env={"BIT_AXON_CPU": level})
        self.assertEqual(len(set(answers.values())), 1, answers)

    def test_every_precision_answers(self):
        planned = {}
        for weights in ("keep", "f32", "f16", "bf16", "q8", "q6", "q5", "q4", "q3", "q2", "q4g32"):
            answer = self.answer("-n", "2", *GREEDY, "--weights", weights, PROMPT)
            planned[weights] = answer["memory"]["planned_bytes"]
        order = [planned[w] for w in ("f32", "bf16", "q8", "q6", "q5", "q4", "q3", "q2")]
        self.assertEqual(order, sorted(order, reverse=True))
        self.assertGreater(planned["q4g32"], planned["q4"])

    def test_the_model_can_be_named_three_ways(self):
        want = self.answer("-n", "3", *GREEDY, PROMPT)["token_ids"]
        self.assertEqual(self.answer("-n", "3", *GREEDY, "-m", MODEL, PROMPT)["token_ids"], want)
        self.assertEqual(self.answer("-n", "3", *GREEDY, "--model", MODEL / "model.safetensors", PROMPT)["token_ids"],
                         want)


if __name__ == "__main__":
    main()
