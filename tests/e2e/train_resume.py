"""bit-axon train, killed and stopped at any moment and resumed: what comes out is that of a run without a stop."""
import hashlib
import json
import random
import re
import shutil
import signal
import subprocess
import time

from support import Case, ERROR, PROGRAM, TINY, environment, main, read_safetensors

STEPS = 36
# Of the lines, what no two runs have in common.
VOLATILE = re.compile(r'"(?:seconds|tokens_per_second|memory_bytes|celsius|paused_seconds)":[^,}]*,?')
CHECKPOINT = {"state.safetensors", "adapter_config.json", "adapter_model.safetensors"}


def chat(question, answer):
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})


def measured(folder):
    """Steps and validations as text, without times and memory."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [VOLATILE.sub("", line) for line in lines if json.loads(line)["kind"] != "event"]


def events(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["event"] for line in lines if line["kind"] == "event"]


def steps_in(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count('"kind":"train"') if path.exists() else 0


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def temporaries(folder):
    return [path for path in folder.rglob("*") if ".tmp-" in path.name]


def checkpoints(folder):
    return sorted(path for path in folder.glob("checkpoints/step-*") if ".tmp-" not in path.name)


class Training(Case):
    """Each training has its settings and a run without a stop to be compared with."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        it = cls("call")  # to make files with
        cls.model = it.new_model("tiny", *TINY, "--weights", "f32")
        words = "the fox went over a hill and saw some river that was wide and cold".split()
        generator = random.Random(7)

        def text(least, most):
            return " ".join(generator.choices(words, k=generator.randint(least, most)))
        cls.data, cls.pairs = cls.folder / "chats.jsonl", cls.folder / "pairs.jsonl"
        cls.data.write_text("".join(chat(text(3, 8), text(4, 20)) + "\n" for _ in range(17)))
        cls.pairs.write_text("".join(
            json.dumps({"prompt": text(3, 8), "chosen": text(4, 12), "rejected": text(4, 12)}) + "\n"
            for _ in range(13)))
        common = ["-m", cls.model, "--threads", "2", "--max-seq-len", "64", "--rank", "4", "--grad-accum", "3",
                  "--dropout", "0.1", "--max-steps", STEPS, "--warmup", "2", "--lr", "1e-3", "--eval-every", "7"]
        cls.trainings = {
            "lora": [cls.data, "--val-data", cls.data, "--eval-batches", "2", *common],
            "dora": [cls.data, "--val-data", cls.data, "--eval-batches", "2", "--adapter", "dora", "--batch-size", "2",
                     *common],
            "orpo": [cls.pairs, "--val-data", cls.pairs, "--eval-batches", "2", "--method", "orpo", *common]}
        cls.references, cls.seconds = {}, {}
        for name, options in cls.trainings.items():
            began = time.monotonic()
            cls.references[name] = cls.folder / f"reference-{name}"
            it.succeed("train", *options, "-o", cls.references[name])
            cls.seconds[name] = time.monotonic() - began

    def begin(self, options, out, *more):
        return subprocess.Popen([PROGRAM, "train", *map(str, [*options, "-o", out, *more])], cwd=self.folder,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())

    def assert_same_as_reference(self, name, out):
        want = self.references[name]
        self.assertEqual(measured(out), measured(want))
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            self.assertEqual(digest(out / file), digest(want / file), file)
        last, reference = checkpoints(out)[-1], checkpoints(want)[-1]
        self.assertEqual(last.name, f"step-{STEPS:08}")
        for file in CHECKPOINT:
            self.assertEqual(digest(last / file), digest(reference / file), file)
        self.assertEqual(temporaries(out), [])
        said = events(out)
        self.assertEqual((said[0], said.count("start"), said.count("done")), ("start", 1, 1))

    def assert_nothing_half(self, out):
        """What stands under a final name is whole, whenever the process was killed."""
        for folder in checkpoints(out):
            self.assertEqual({path.name for path in folder.iterdir()}, CHECKPOINT, folder)
        for path in out.rglob("*.safetensors"):
            if temporaries_above(path):
                continue
            header, data = read_safetensors(path)
            ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
            self.assertEqual(max(ends), len(data), path)
        for path in out.glob("*.json"):
            json.loads(path.read_text())
        for path, end in ((out / "report.html", "</html>"), (out / "loss.svg", "</svg>")):
            if path.exists():
                self.assertTrue(path.read_text().rstrip().endswith(end), path)
        metrics = out / "metrics.jsonl"
        if metrics.exists():
            for line in metrics.read_text().split("\n")[:-1]:
                json.loads(line)


def temporaries_above(path):
    return any(".tmp-" in part for part in path.parts)


class Kill(Training):
    def test_killed_at_any_moment(self):
        generator = random.Random(20)
        killed = left = resumed = 0
        for run in range(20):
            name = ("lora", "dora", "orpo", "lora")[run % 4]
            out = self.folder / f"killed-{run}"
            options = [*self.trainings[name], "--save-every", generator.choice((1, 2, 3)), "--keep",
                       generator.choice((1, 3))]
            with self.subTest(run=run, training=name):
                for _ in range(generator.choice((1, 2, 3))):
                    if not self.kill(self.begin(options, out, "--resume"), out, generator, self.seconds[name]):
                        break
                    killed += 1
                    if out.exists():
                        self.assert_nothing_half(out)
                        left += bool(temporaries(out))
                self.succeed("train", *options, "-o", out, "--resume")
                self.assert_same_as_reference(name, out)
                resumed += "resume" in events(out)
            shutil.rmtree(out, ignore_errors=True)
        # Or nothing was tried: kills met trainings that ran, and some of them in the midst of writing.
        print(f"{killed} kills, {left} with something half-written, {resumed} of 20 trainings went on", flush=True)
        self.assertGreaterEqual(killed, 20)
        self.assertGreaterEqual(resumed, 8)
        self.assertGreaterEqual(left, 1)

    def kill(self, process, out, generator, seconds):
        """After a random time, behind a random step, or as soon as something is being written then. False: it had
        ended before."""
        when = generator.choice(("time", "step", "writing"))
        end = time.monotonic() + generator.uniform(0, seconds)
        step = generator.randint(min(steps_in(out) + 1, STEPS), STEPS)
        while process.poll() is None and (time.monotonic() < end if when == "time" else steps_in(out) < step):
            time.sleep(0.002)
        if when == "step":
            time.sleep(generator.uniform(0, 0.03))
        while when == "writing" and process.poll() is None and not temporaries(out):
            pass
        process.kill()
        said = process.communicate(timeout=60)[1].decode()
        self.assertIn(process.returncode, (0, -signal.SIGKILL), said)
        return process.returncode != 0


class Stop(Training):
    def wait_for_steps(self, process, out, steps):
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if steps_in(out) >= steps:
                return
            time.sleep(0.002)
        self.fail(f"it never came to step {steps}: {process.communicate(timeout=60)[1].decode()}")

    def test_a_signal_ends_it_behind_a_checkpoint(self):
        for number, name, steps in ((signal.SIGINT, "lora", 4), (signal.SIGTERM, "dora", 2),
                                    (signal.SIGINT, "orpo", 1)):
            out = self.folder / f"stopped-{number}-{name}"
            options = [*self.trainings[name], "--save-every", "1000"]
            process = self.begin(options, out)
            self.wait_for_steps(process, out, steps)
            process.send_signal(number)
            said = process.communicate(timeout=60)[1].decode()
            self.assertEqual(process.returncode, ERROR, said)
            stopped = re.search(rf"stopped after step (\d+) of {STEPS}; the same command with --resume goes on", said)
            self.assertTrue(stopped, said)
            done = int(stopped[1])
            self.assertTrue(steps <= done < STEPS, said)
            self.assertEqual([path.name for path in checkpoints(out)], [f"step-{done:08}"])
            self.assert_nothing_half(out)
            self.assertEqual(events(out), ["start", "stop"])
            self.assertEqual(len([line for line in measured(out) if '"train"' in line]), done)
            # The adapter so far is there to be tried, and has what the checkpoint has.
            self.assertEqual(digest(out / "adapter_model.safetensors"),
                             digest(checkpoints(out)[0] / "adapter_model.safetensors"))
            self.fail_with(ERROR, [out, "--resume"], "train", *options, "-o", out)
            self.succeed("train", *options, "-o", out, "--resume")
            self.assert_same_as_reference(name, out)
            self.assertEqual(events(out), ["start", "stop", "resume", "done"])

    def test_a_finished_training_stays_as_it_is(self):
        out = self.folder / "finished"
        shutil.copytree(self.references["lora"], out)
        self.succeed("train", *self.trainings["lora"], "-o", out, "--resume")
        self.assert_same_as_reference("lora", out)
        self.assertEqual(events(out), ["start", "done", "resume"])

    def test_what_a_killed_process_left_goes_at_the_next_start(self):
        out = self.folder / "left"
        shutil.copytree(self.references["lora"], out)
        with subprocess.Popen(["true"]) as ended:
            pass
        mine = [out / f"notes.txt.tmp-{ended.pid}", out / "adapter.tmp-mine"]
        for name in ("metrics.jsonl", "adapter_config.json", "adapter_model.safetensors", "report.html", "loss.svg"):
            (out / f"{name}.tmp-{ended.pid}").write_text("half")
        for path in mine:
            path.write_text("mine")
        half = out / f"checkpoints/step-00000040.tmp-{ended.pid}"
        half.mkdir()
        (half / "state.safetensors").write_text("half")
        self.succeed("train", *self.trainings["lora"], "-o", out, "--resume")
        self.assertEqual(set(temporaries(out)), set(mine))

    def test_other_settings_are_named(self):
        out = self.folder / "other"
        shutil.copytree(self.references["lora"], out)
        other = self.folder / "other.jsonl"
        other.write_text(self.data.read_text() + chat("one", "more") + "\n")
        before = {path: digest(path) for path in out.rglob("*") if path.is_file()}
        options = self.trainings["lora"]
        for change, words in ((["--rank", "8"], ["rank was 4, and is 8"]),
                              (["--adapter", "dora"], ["adapter was lora, and is dora"]),
                              (["--seed", "1", "--dropout", "0"],
                               ["seed was 42, and is 1", "dropout was 0.1, and is 0"]),
                              (["--max-steps", "30"], ["max-steps was 36, and is 30"]),
                              (["--targets", "attention"], ["targets was", "and is attention"])):
            names = [word for word in change if str(word).startswith("--")]
            kept = list(options)
            for word in names:  # given twice is wrong usage
                if word in kept:
                    del kept[kept.index(word):kept.index(word) + 2]
            self.fail_with(ERROR, ["belongs to another training", *words], "train", *kept, *change, "-o", out,
                           "--resume")
        self.fail_with(ERROR, ["belongs to another training", "the training data was"], "train", other, *options[1:],
                       "-o", out, "--resume")
        model = self.new_model("bf16", *TINY, "--weights", "bf16")
        self.fail_with(ERROR, ["belongs to another training", "the model was"], "train",
                       *[model if word == self.model else word for word in options], "-o", out, "--resume")
        self.assertEqual({path: digest(path) for path in out.rglob("*") if path.is_file()}, before)

    def test_a_damaged_checkpoint_is_named(self):
        out = self.folder / "damaged"
        shutil.copytree(self.references["lora"], out)
        state = checkpoints(out)[-1] / "state.safetensors"
        content = state.read_bytes()
        for size in (0, 7, 100, len(content) // 2, len(content) - 1):
            state.write_bytes(content[:size])
            self.fail_with(ERROR, [state], "train", *self.trainings["lora"], "-o", out, "--resume")
        state.write_bytes(content.replace(b"bit-axon training state 1", b"bit-axon training state 9", 1))
        self.fail_with(ERROR, [state, "training state 9"], "train", *self.trainings["lora"], "-o", out, "--resume")


if __name__ == "__main__":
    main()
