"""bit-axon train: from lines to an adapter that works; what it plans, prints and writes; what it refuses, and how."""
import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess

from support import Case, DOES_NOT_FIT, ERROR, MIB, MODEL, SANITIZED, TINY, USAGE, main, read_safetensors

FILES = {"adapter_config.json", "adapter_model.safetensors", "checkpoints", "loss.svg", "metrics.jsonl", "report.html"}
ANSWER = "Purple elephants dance on Tuesdays."


def lines(*objects):
    return "".join(json.dumps(one) + "\n" for one in objects)


def chat(question, answer=None):
    turns = [{"role": "user", "content": question}]
    return {"messages": turns + ([] if answer is None else [{"role": "assistant", "content": answer}])}


def metrics(folder, kind):
    return [line for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
            if line["kind"] == kind]


def thermal_states(folder):
    return [line["state"] for line in metrics(folder, "event") if line["event"] == "thermal"]


def step_folders(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def contents(folder):
    """Digests, since unittest shows differences, and of large ones not in an hour."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*") if path.is_file()}


class Training(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        it = cls("call")  # to make files with
        cls.tiny = it.new_model("tiny", *TINY, "--weights", "f32")
        cls.chats = it.write("chats.jsonl", *(chat(f"What is number {i}?", f"It is {i} and nothing but {i}.")
                                              for i in range(12)))
        cls.pairs = it.write("pairs.jsonl", *({"prompt": f"What is number {i}?", "chosen": f"It is {i}.",
                                               "rejected": "Go away, you!"} for i in range(8)))

    def write(self, name, *objects):
        path = self.folder / name
        path.write_text(lines(*objects))
        return path

    def small(self, data, out, *more):
        """A training of a tenth of a second."""
        usual = (("-m", self.tiny), ("--max-seq-len", "64"), ("--rank", "4"), ("--threads", "2"), ("--warmup", "1"))
        return ["train", data, "-o", out, *more,
                *(word for option in usual if option[0] not in more for word in option)]

    def assert_plan_kept(self, memory):
        self.assertEqual(memory["planned_bytes"], memory["ledger_peak_bytes"])
        for line in memory["accounts"]:
            self.assertEqual(line["planned_bytes"], line["peak_bytes"], line["account"])
        self.assertEqual(sum(line["planned_bytes"] for line in memory["accounts"]), memory["planned_bytes"])
        if not SANITIZED:
            self.assertLessEqual(memory["resident_peak_bytes"], memory["planned_bytes"])


class Learning(Training):
    def test_an_adapter_that_answers(self):
        """The shipped model learns one sentence by heart, and says it with the adapter, merged or beside."""
        data = self.write("one.jsonl", chat("Tell me the secret.", ANSWER), chat("What is the secret?", ANSWER))
        out = self.folder / "secret"
        done = self.succeed("train", data, "-o", out, "--val-data", data, "--max-steps", "24", "--grad-accum", "1",
                            "--lr", "3e-3", "--warmup", "2", "--rank", "8", "--max-seq-len", "64", "--json")
        told = done.json()
        before, after = told["validation_before"], told["validation_after"]
        self.assertEqual((before["step"], after["step"]), (0, 24))
        self.assertLess(after["loss"], 0.1 * before["loss"])
        self.assertEqual({path.name for path in out.iterdir()}, FILES)
        self.assertEqual(told["adapter"], str(out))
        self.assertIn(f"bit-axon run --model {MODEL} --adapter {out}", done.err)
        self.assertIn("equal to the byte", done.err)
        ask = ["-n", "20", "--temperature", "0", "Tell me the secret."]
        self.assertNotIn(ANSWER, self.answer(*ask)["text"])
        self.assertEqual(self.answer("--adapter", out, *ask)["text"].strip(), ANSWER)
        merged = self.folder / "merged"
        self.succeed("merge", "--adapter", out, "--weights", "bf16", "-o", merged)
        self.assertEqual(self.answer("-m", merged, *ask)["text"].strip(), ANSWER)

    def test_json_and_files(self):
        out = self.folder / "files"
        done = self.succeed(*self.small(self.chats, out, "--max-steps", "5", "--grad-accum", "2", "--save-every", "2",
                                        "--keep", "2", "--val-data", self.chats, "--eval-every", "2", "--json"))
        told = done.json()
        types = {"adapter": str, "stopped": bool, "steps": int, "total_steps": int, "trainable_parameters": int,
                 "loss": float, "seconds_per_step": float, "tokens_per_second": float, "validation_before": dict,
                 "validation_after": dict, "paused_seconds": (int, float), "threads": int, "processes": int,
                 "work": dict, "data": dict, "memory": dict}
        self.assertEqual(set(told), set(types))
        for key, kind in types.items():
            self.assertIsInstance(told[key], kind, key)
        self.assertEqual((told["stopped"], told["steps"], told["total_steps"], told["threads"], told["processes"]),
                         (False, 5, 5, 2, 1))
        self.assert_plan_kept(told["memory"])
        work = told["work"]
        self.assertGreater(work["weight_bytes"], 0)
        self.assertGreater(work["bf16_flops"] + work["fp32_flops"], 0)
        self.assertAlmostEqual(sum(work["verb_seconds"].values()), work["seconds"], places=6)
        self.assertEqual(step_folders(out), ["step-00000004", "step-00000005"])
        for folder in (out / "checkpoints").iterdir():
            self.assertEqual({path.name for path in folder.iterdir()},
                             {"state.safetensors", "adapter_config.json", "adapter_model.safetensors"})
        self.assertEqual((out / "checkpoints/step-00000005/adapter_model.safetensors").read_bytes(),
                         (out / "adapter_model.safetensors").read_bytes())
        steps = metrics(out, "train")
        self.assertEqual([line["step"] for line in steps], [1, 2, 3, 4, 5])
        self.assertEqual([line["update"] for line in steps], [0, 1, 1, 2, 3])  # what is left over is an update, too
        self.assertEqual(told["loss"], steps[-1]["loss"])
        self.assertEqual([line["step"] for line in metrics(out, "validation")], [0, 2, 4, 5])
        self.assertEqual(told["validation_after"]["loss"], metrics(out, "validation")[-1]["loss"])
        self.assertEqual([line["event"] for line in metrics(out, "event")], ["start", "done"])
        config = json.loads((out / "adapter_config.json").read_text())
        self.assertEqual((config["r"], config["lora_alpha"]), (4, 8))
        tensors = read_safetensors(out / "adapter_model.safetensors")[0]
        sizes = [t["shape"][0] * t["shape"][1] for name, t in tensors.items() if name != "__metadata__"]
        self.assertEqual(sum(sizes), told["trainable_parameters"])
        self.assertIn("</svg>", (out / "loss.svg").read_text())
        self.assertIn(self.chats.name, (out / "report.html").read_text())
        # Without --json, stdout stays empty: words are on stderr.
        quiet = self.succeed(*self.small(self.chats, self.folder / "quiet", "--max-steps", "1"))
        self.assertEqual(quiet.out, "")
        self.assertIn("12 examples (messages)", quiet.err)

    def test_every_format_is_read(self):
        question, answer = "Say it twice.", "It and it again."
        for name, one in (("messages", chat(question, answer)),
                          ("conversations", {"system_prompt": "Be kind", "conversations": [
                              {"from": "human", "value": question}, {"from": "gpt", "value": answer}]}),
                          ("alpaca", {"instruction": question, "input": "it", "output": answer}),
                          ("completion", {"prompt": question, "completion": answer}),
                          ("text", {"text": f"{question} {answer}"})):
            data = self.write(f"{name}.jsonl", one, one)
            out = self.folder / f"format-{name}"
            told = self.succeed(*self.small(data, out, "--epochs", "2", "--json")).json()
            self.assertEqual((told["data"]["format"], told["data"]["examples"], told["steps"]), (name, 2, 4))
            self.assertGreater(told["data"]["targets"], 3)
        pairs = self.succeed(*self.small(self.pairs, self.folder / "format-pairs", "--method", "orpo", "--json")).json()
        self.assertEqual((pairs["data"]["format"], pairs["steps"]), ("preference", 8))
        raw = self.succeed(*self.small(self.folder / "completion.jsonl", self.folder / "raw", "--raw-completions",
                                       "--json")).json()
        chatml = self.succeed(*self.small(self.folder / "completion.jsonl", self.folder / "chatml", "--json")).json()
        self.assertLess(raw["data"]["tokens"], chatml["data"]["tokens"])  # no template around it

    def test_what_is_learned(self):
        data = {}
        for name, more in (("mask", ["--mask-prompt"]), ("default", []), ("all", ["--no-mask-prompt"])):
            data[name] = self.succeed(*self.small(self.chats, self.folder / name, "--max-steps", "1", *more,
                                                  "--json")).json()["data"]
        self.assertEqual(data["mask"], data["default"])
        self.assertEqual(data["all"]["tokens"], data["mask"]["tokens"])
        self.assertLess(data["mask"]["targets"], 0.7 * data["all"]["targets"])

    def test_pack_fills_rows(self):
        plain = self.succeed(*self.small(self.chats, self.folder / "plain", "--json")).json()
        packed = self.succeed(*self.small(self.chats, self.folder / "packed", "--pack", "--json")).json()
        self.assertEqual(plain["steps"], 12)
        self.assertLess(packed["steps"], 8)
        self.assertEqual(plain["data"], packed["data"])
        tokens = [line["tokens"] for line in metrics(self.folder / "packed", "train")]
        self.assertTrue(all(20 < count <= 64 for count in tokens[:-1]), tokens)

    def test_dora_learns_magnitudes(self):
        out = self.folder / "dora"
        told = self.succeed(*self.small(self.chats, out, "--adapter", "dora", "--val-data", self.chats, "--lr", "3e-3",
                                        "--grad-accum", "1", "--json")).json()
        self.assertLess(told["validation_after"]["loss"], told["validation_before"]["loss"])
        self.assert_plan_kept(told["memory"])
        names = read_safetensors(out / "adapter_model.safetensors")[0]
        self.assertTrue(any("lora_magnitude_vector" in name for name in names))
        self.assertTrue(json.loads((out / "adapter_config.json").read_text())["use_dora"])
        ask = ["-m", self.tiny, "-n", "8", "--temperature", "0", "--exact", "What is number 3?"]
        self.assertNotEqual(self.answer(*ask)["token_ids"], self.answer("--adapter", out, *ask)["token_ids"])

    def test_orpo_widens_the_margin(self):
        out = self.folder / "orpo"
        told = self.succeed(*self.small(self.pairs, out, "--method", "orpo", "--val-data", self.pairs, "--epochs", "4",
                                        "--lr", "3e-3", "--grad-accum", "2", "--orpo-lambda", "1", "--json")).json()
        before, after = told["validation_before"], told["validation_after"]
        self.assertGreater(after["reward_margin"], before["reward_margin"] + 0.1)
        self.assertGreaterEqual(after["reward_accuracy"], before["reward_accuracy"])
        self.assertEqual(after["reward_accuracy"], 1)
        for line in metrics(out, "train"):
            self.assertLess(line["chosen_logps"], 0)
        self.assert_plan_kept(told["memory"])

    def test_mlx_form(self):
        out = self.folder / "mlx"
        self.succeed(*self.small(self.chats, out, "--max-steps", "4", "--grad-accum", "1", "--lr", "3e-3", "--format",
                                 "mlx"))
        self.assertEqual({path.name for path in out.iterdir()},
                         FILES - {"adapter_model.safetensors"} | {"adapters.safetensors"})
        peft = self.folder / "peft"
        self.succeed(*self.small(self.chats, peft, "--max-steps", "4", "--grad-accum", "1", "--lr", "3e-3"))
        ask = ["-m", self.tiny, "-n", "8", "--temperature", "0", "--exact", "What is number 3?"]
        answers = [self.answer("--adapter", folder, *ask)["token_ids"] for folder in (out, peft)]
        self.assertEqual(*answers)
        self.assertNotEqual(answers[0], self.answer(*ask)["token_ids"])

    def test_same_inputs_same_bits(self):
        options = ["--max-steps", "4", "--grad-accum", "2", "--dropout", "0.2"]
        for name, more in (("first", []), ("again", []), ("other", ["--seed", "1"])):
            self.succeed(*self.small(self.chats, self.folder / name, *options, *more))
        weights = [(self.folder / name / "adapter_model.safetensors").read_bytes()
                   for name in ("first", "again", "other")]
        self.assertEqual(weights[0], weights[1])
        self.assertNotEqual(weights[0], weights[2])


class Memory(Training):
    def test_plan_tells_it_beforehand(self):
        for number, options in enumerate((
                [], ["--adapter", "dora", "--dropout", "0.1", "--targets", "attention,down_proj"],
                ["--method", "orpo", "--rank", "3", "--threads", "1"], ["--pack", "--batch-size", "3", "--exact"],
                ["--weights", "q8", "--chunk", "32", "--max-seq-len", "96"], ["--compat"])):
            data = self.pairs if "orpo" in options else self.chats
            known = ["--rank", "5"] * ("--rank" not in options) + ["--max-seq-len", "64"] * (
                "--max-seq-len" not in options) + ["--threads", "2"] * ("--threads" not in options)
            for model, validation in ((self.tiny, ["--val-data", data]), (MODEL, [])):
                options_all = [*options, *known, *validation]
                plan = self.succeed("plan", model, "--train", "--json", "--data", data, *options_all).json()["training"]
                out = self.folder / f"planned-{number}-{model.name}"
                memory = self.succeed("train", data, "-m", model, "-o", out, "--max-steps", "1", *options_all,
                                      "--json").json()["memory"]
                self.assertEqual(plan["total_bytes"], memory["planned_bytes"], options_all)
                self.assertEqual({line["account"]: line["bytes"] for line in plan["accounts"]},
                                 {line["account"]: line["planned_bytes"] for line in memory["accounts"]})
                self.assert_plan_kept(memory)

    def test_a_byte_decides_and_what_would_fit_fits(self):
        data = self.write("few.jsonl", chat("Hi", "Hello"), chat("Ho", "Hey"))
        options = ["--max-steps", "1", "--max-seq-len", "1024", "--rank", "8", "--json"]
        total = self.succeed("plan", "--train", "--json", "--max-seq-len", "1024", "--rank", "8", "--data",
                             data).json()["training"]["total_bytes"]
        out = self.folder / "budget"
        kept = self.succeed("train", data, "-o", out, *options, "--memory-budget", total).json()["memory"]
        self.assertEqual((kept["planned_bytes"], kept["budget_bytes"], kept["budget_source"]),
                         (total, total, "--memory-budget"))
        over = self.folder / "over"
        for budget in (total - 1, total - 8 * MIB):
            said = self.fail_with(DOES_NOT_FIT, ["--memory-budget", "The largest accounts are", "This would fit:"],
                                  "train", data, "-o", over, *options, "--memory-budget", budget).err
            self.assertFalse(over.exists())
            first = said.split("This would fit:")[1].splitlines()[1].split("  (")[0].split()
            changed = list(options)
            if first[0] in changed:
                del changed[changed.index(first[0]):changed.index(first[0]) + 2]
            fits = self.succeed("train", data, "-o", self.folder / f"fits-{budget}", *changed, *first,
                                "--memory-budget", budget).json()["memory"]
            self.assertLessEqual(fits["planned_bytes"], budget)
            self.assert_plan_kept(fits)
        self.fail_with(DOES_NOT_FIT, ["5.0 MiB", "Nothing that was tried fits"], "train", data, "-o", over,
                       "--memory-budget", "5MiB")
        self.assertFalse(over.exists())


class Data(Training):
    def refused(self, words, data, *more):
        out = self.folder / "never"
        self.fail_with(ERROR, words, *self.small(data, out, *more))
        self.assertFalse(out.exists(), list(out.rglob("*")) if out.exists() else "")

    def test_a_malformed_line_is_named(self):
        good = lines(chat("Hi", "Hello"))
        for name, line, words in (("syntax", '{"messages": [', []), ("shape", '{"messages": "Hi"}', ["messages", "Hi"]),
                                  ("keys", '{"question": "Hi"}', ["question"]), ("list", "[1]", ["object"]),
                                  ("other", '{"text": "Hi"}', ["messages"]),
                                  ("utf8", b'{"messages": "\xff"}', ["UTF-8"])):
            data = self.folder / f"{name}.jsonl"
            data.write_bytes(2 * good.encode() + (line if isinstance(line, bytes) else line.encode()) + b"\n" +
                             good.encode())
            self.refused([f"{data}:3: ", *words], data)
            self.refused([f"{data}:3: ", *words], self.chats, "--val-data", data)
            out = self.folder / f"skipped-{name}"
            done = self.succeed(*self.small(data, out, "--skip-bad", "--max-steps", "1", "--json"))
            self.assertEqual((done.json()["data"]["malformed"], done.json()["data"]["examples"]), (1, 3))
            self.assertIn("1 malformed", done.err)
            self.assertIn(f"{data}:3: ", done.err)

    def test_data_without_anything(self):
        empty, blank = self.write("empty.jsonl"), self.folder / "blank.jsonl"
        blank.write_text("\n \n\n")
        for data in (empty, blank):
            self.refused([data, "empty"], data)
            self.refused([data, "empty"], self.chats, "--val-data", data)
        masked, bad = self.write("masked.jsonl", chat("Hi"), chat("Ho")), self.write("bad.jsonl", {"a": 1})
        self.refused([masked, "no example is left of 2 lines", "2 without anything to learn"], masked)
        self.refused([bad, "no example is left of 1 lines", "1 malformed", f"{bad}:1: "], bad, "--skip-bad")
        missing = self.folder / "missing.jsonl"
        self.refused([missing, "No such file"], missing)
        self.refused([missing, "No such file"], self.chats, "--val-data", missing)
        self.refused([self.folder, "not a regular file"], self.folder)
        self.refused([f"{self.chats}:1: ", "chosen"], self.chats, "--method", "orpo")
        self.refused([f"{self.pairs}:1: "], self.pairs)

    def test_what_is_too_long_is_counted(self):
        long = " ".join(["river"] * 60)
        data = self.write("long.jsonl", chat("Hi", "Hello"), chat("Hi", long), chat(long, "Hello"))
        done = self.succeed(*self.small(data, self.folder / "long", "--json"))
        told = done.json()["data"]
        self.assertEqual((told["examples"], told["truncated"], told["emptied"]), (2, 2, 1))
        self.assertGreater(told["longest"], 64)
        self.assertIn("2 longer than --max-seq-len and cut", done.err)
        self.assertIn("1 left out", done.err)
        self.refused([data, "whose answers lie beyond 4 tokens"], data, "--max-seq-len", "4")

    def test_folders(self):
        out = self.folder / "begun"
        self.succeed(*self.small(self.chats, out, "--max-steps", "1"))
        before = contents(out)
        self.fail_with(ERROR, [out, "--resume", "another folder"], *self.small(self.chats, out))
        self.assertEqual(contents(out), before)
        file = self.folder / "file"
        file.write_text("mine")
        for path in (file, file / "below"):
            self.fail_with(ERROR, [path], *self.small(self.chats, path))
        self.assertEqual(file.read_text(), "mine")
        # A folder that is there is used, and what is in it stays.
        mine = self.folder / "mine"
        mine.mkdir()
        (mine / "notes.txt").write_text("mine")
        self.refused_in(mine)
        deep = self.folder / "a/b/c"
        self.succeed(*self.small(self.chats, deep, "--max-steps", "1"))
        self.succeed(*self.small(self.chats, mine, "--max-steps", "1"))
        self.assertEqual((mine / "notes.txt").read_text(), "mine")

    def refused_in(self, folder):
        before = contents(folder)
        self.fail_with(ERROR, ["missing.jsonl"], *self.small(self.folder / "missing.jsonl", folder))
        self.assertEqual(contents(folder), before)


class Trouble(Training):
    def test_a_loss_that_is_not_a_number(self):
        out = self.folder / "nan"
        said = self.fail_with(ERROR, ["is not a number", "its batch is line", self.chats, "The last checkpoint"],
                              *self.small(self.chats, out, "--lr", "10", "--scale", "1e6", "--warmup", "0",
                                          "--max-grad-norm", "1e9", "--grad-accum", "1", "--save-every", "1")).err
        last = out / "checkpoints" / step_folders(out)[-1]
        self.assertIn(str(last), said)
        self.assertGreaterEqual({path.name for path in last.iterdir()}, {"state.safetensors", "adapter_config.json"})
        header, data = read_safetensors(last / "state.safetensors")
        self.assertEqual(max(t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), len(data))
        self.assertFalse([path for path in out.rglob("*") if ".tmp-" in path.name])
        # Before the first checkpoint there is none to name.
        early = self.fail_with(ERROR, ["is not a number", "There is no checkpoint yet"],
                               *self.small(self.chats, self.folder / "early", "--lr", "10", "--scale", "1e6",
                                           "--warmup", "0", "--max-grad-norm", "1e9", "--grad-accum", "1"))
        self.assertRegex(early.err, r"step \d+: .*its batch is line \d+ of ")

    def test_a_file_that_may_not_grow(self):
        """A checkpoint that cannot be written ends the training; the one before stays, and is gone on with."""
        whole, out = self.folder / "unlimited", self.folder / "limited"
        options = ["--max-steps", "4", "--save-every", "1", "--grad-accum", "3", "--keep", "9"]

        def little_room():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        self.fail_with(ERROR, [out / "checkpoints/step-00000001", "File too large"],
                       *self.small(self.chats, out, *options), preexec_fn=little_room)
        self.assertEqual(step_folders(out), [])
        shutil.rmtree(out)
        self.succeed(*self.small(self.chats, whole, *options))
        shutil.copytree(whole, out)
        for step in (3, 4):
            shutil.rmtree(out / f"checkpoints/step-{step:08}")
        before = contents(out / "checkpoints")
        self.fail_with(ERROR, [out / "checkpoints/step-00000003", "File too large"],
                       *self.small(self.chats, out, *options, "--resume"), preexec_fn=little_room)
        self.assertEqual(contents(out / "checkpoints"), before)
        self.assertFalse([path for path in out.rglob("*") if ".tmp-" in path.name])
        self.succeed(*self.small(self.chats, out, *options, "--resume"))
        self.assertEqual(contents(out / "checkpoints"), contents(whole / "checkpoints"))

    def test_a_full_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        options = ["--max-steps", "6", "--save-every", "1", "--grad-accum", "1", "--keep", "5"]
        whole = self.folder / "elsewhere"
        self.succeed(*self.small(self.chats, whole, *options))
        one = sum(path.stat().st_size for path in (whole / "checkpoints/step-00000006").iterdir())
        size = one * 5 // 2 // 4096 * 4096
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk],
                          stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("may not mount")
        try:
            out = disk / "out"
            said = self.fail_with(ERROR, ["No space left on device", "step-00000003"],
                                  *self.small(self.chats, out, *options)).err
            self.assertIn(str(out), said)
            self.assertEqual(step_folders(out), ["step-00000001", "step-00000002"])
            self.assertFalse([path for path in out.rglob("*") if ".tmp-" in path.name])
            for step in (1, 2):
                self.assertEqual(contents(out / f"checkpoints/step-{step:08}").keys(),
                                 contents(whole / "checkpoints/step-00000006").keys())
            subprocess.run(["mount", "-o", f"remount,size={10 * one}", disk], check=True)
            self.succeed(*self.small(self.chats, out, *options, "--resume"))
            self.assertEqual(contents(out / "checkpoints/step-00000006"),
                             contents(whole / "checkpoints/step-00000006"))
        finally:
            subprocess.run(["umount", disk], check=True)


class Heat(Training):
    def trace(self, *moments):
        path = self.folder / f"trace-{random.getrandbits(32)}"
        path.write_text("# seconds celsius\n" + "".join(f"{s} {c}\n" for s, c in moments))
        return path

    def heated(self, name, trace, *more):
        out = self.folder / name
        done = self.succeed(*self.small(self.chats, out, "--max-steps", "4", "--grad-accum", "2", "--thermal-trace",
                                        trace, "--json", *more))
        return out, done

    def test_warm_halves_the_ranks(self):
        out, done = self.heated("warm", self.trace((0, 80)))
        self.assertEqual(thermal_states(out), ["half-rank"])
        steps = metrics(out, "train")
        self.assertEqual({(line["ranks"], line["celsius"]) for line in steps}, {(2, 80)})
        self.assertIn("half-rank", done.err)
        self.assertEqual(done.json()["paused_seconds"], 0)
        cool, _ = self.heated("cool", self.trace((0, 50)))
        self.assertEqual(thermal_states(cool), [])
        self.assertEqual({line["ranks"] for line in metrics(cool, "train")}, {4})
        # The limits can be typed.
        typed, _ = self.heated("typed", self.trace((0, 50)), "--max-speed-temp", "45", "--resume-temp", "40")
        self.assertEqual(thermal_states(typed), ["half-rank"])

    def test_hot_waits(self):
        out, done = self.heated("hot", self.trace((0, 90), (5, 90), (5.1, 60)))
        told = done.json()
        self.assertGreater(told["paused_seconds"], 0.4)
        steps = metrics(out, "train")
        self.assertGreater(steps[0]["paused_seconds"], 0.4)
        self.assertAlmostEqual(sum(line["paused_seconds"] for line in steps), told["paused_seconds"], places=6)
        self.assertEqual(told["steps"], 4)

    def test_too_hot_stops_behind_a_checkpoint_and_goes_on(self):
        out, done = self.heated("stop", self.trace((0, 97), (6, 97), (6.1, 60)), "--keep", "5")
        states = thermal_states(out)
        self.assertEqual(states[0], "stop")
        self.assertIn("full", states)
        self.assertEqual(step_folders(out), ["step-00000000", "step-00000004"])
        told = done.json()
        self.assertEqual((told["stopped"], told["steps"]), (False, 4))
        self.assertIn("97", [line for line in metrics(out, "event") if line["event"] == "thermal"][0]["detail"])

    def test_without_a_sensor(self):
        out = self.folder / "sensor"
        done = self.succeed(*self.small(self.chats, out, "--max-steps", "2"))
        if "temperature: " in done.err:
            self.skipTest("this machine has a sensor")
        self.assertEqual(done.err.count("no temperature is watched"), 1)
        self.assertTrue(all("celsius" not in line for line in metrics(out, "train")))
        quiet = self.succeed(*self.small(self.chats, self.folder / "unwatched", "--max-steps", "1", "--no-thermal"))
        self.assertNotIn("temperature", quiet.err)
        for limit in (["--stop-temp", "90"], ["--max-speed-temp", "60"], ["--on-battery", "stop"]):
            self.fail_with(ERROR, ["temperature limits were asked for", "--no-thermal"],
                           *self.small(self.chats, self.folder / "limits", *limit))
            self.assertFalse((self.folder / "limits").exists())

    def test_wrong_traces_and_limits(self):
        out = self.folder / "wrong"
        trace = self.folder / "trace"
        trace.write_text("0 60\n0 70\n")
        self.fail_with(ERROR, [trace, "line 2"], *self.small(self.chats, out, "--thermal-trace", trace))
        self.fail_with(ERROR, ["no-trace"], *self.small(self.chats, out, "--thermal-trace", self.folder / "no-trace"))
        trace.write_text("0 60\n")
        self.fail_with(ERROR, ["pause", "90", "80"], *self.small(self.chats, out, "--thermal-trace", trace,
                                                                 "--max-speed-temp", "90", "--pause-temp", "80"))
        self.assertFalse(out.exists())


class Usage(Training):
    def test_wrong_options_are_named(self):
        data = ["train", self.chats, "-o", self.folder / "usage"]
        for args, words in ((["train"], ["data"]), (["train", self.chats], ["--output"]),
                            ([*data, "--rank", "0"], ["--rank"]), ([*data, "--rank", "x"], ["--rank", "x"]),
                            ([*data, "--method", "dpo"], ["--method", "dpo"]),
                            ([*data, "--adapter", "qlora"], ["--adapter", "qlora"]),
                            ([*data, "--scale", "1", "--alpha", "2"], ["--alpha", "--scale"]),
                            ([*data, "--schedule", "step"], ["--schedule", "step"]),
                            ([*data, "--weights", "q9"], ["q9"]), ([*data, "--format", "gguf"], ["--format", "gguf"]),
                            ([*data, "--memory-budget", "12XB"], ["12XB"]), ([*data, "--targets", ""], ["--targets"]),
                            ([*data, "--seed", "-1"], ["--seed"]), ([*data, "--lr", "11"], ["--learning-rate"]),
                            ([*data, "--lr", "nan"], ["--learning-rate"]), ([*data, "--dropout", "1"], ["--dropout"]),
                            ([*data, "--eval-every", "0"], ["--eval-every"]),
                            ([*data, "--max-steps", "0"], ["--max-steps"]),
                            ([*data, "--epochs", "0"], ["--epochs"]), ([*data, "--batch-size", "0"], ["--batch-size"]),
                            ([*data, "--grad-accum", "0"], ["--grad-accum"]), ([*data, "--keep", "0"], ["--keep"]),
                            ([*data, "--save-every", "0"], ["--save-every"]), ([*data, "--chunk", "8"], ["--chunk"]),
                            ([*data, "--threads", "0"], ["--threads"]), ([*data, "--val-data", ""], ["--val-data"]),
                            ([*data, "--pause-seconds", "0"], ["--pause-seconds"]),
                            ([*data, "--on-battery", "run"], ["--on-battery", "run"]),
                            ([*data, "--max-seq-len", "1"], ["--max-seq-len"]), ([*data, "--no-such"], ["--no-such"])):
            self.fail_with(USAGE, words, *args)
        for args, words in ((["--targets", "coffee"], ["coffee", "q_proj"]),
                            (["--lr", "1e-4", "--min-learning-rate", "1e-3"], ["min-learning-rate", "0.001"]),
                            (["--max-seq-len", "100000"], ["max-seq-len", "100000"]),
                            (["-m", self.folder / "no-model"], ["no-model"])):
            self.fail_with(ERROR, words, *data, *args)
        self.assertFalse((self.folder / "usage").exists())

    def test_help_shows_how(self):
        text = self.succeed("train", "--help").out
        for words in ("Examples:", "bit-axon train chats.jsonl", "--resume", "mpirun -n 2", "--thermal-trace",
                      "bit-axon plan --train"):
            self.assertIn(words, text)
        self.assertIn("train", self.succeed("--help").out)


if __name__ == "__main__":
    main()
