"""Models that are damaged, incomplete or contradict themselves: an error that names the thing, never a crash."""
import json
import shutil
import struct

from support import (Case, ERROR, MODEL, TINY, copy_model, main, read_safetensors, without_tensor, write_safetensors)

NAN16, INF16 = b"\xc0\x7f", b"\x80\x7f"  # bfloat16


class Broken(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = cls()
        cls.good = case.new_model("good", *TINY)
        cls.quantized = case.new_model("quantized", *TINY, "--weights", "q4")
        cls.header, cls.data = read_safetensors(cls.good / "model.safetensors")

    def runTest(self):
        """So that setUpClass can make models with the methods of an instance."""

    def broken(self, source=None):
        """A copy to be broken."""
        return copy_model(source or self.good, self.folder / f"broken-{len(list(self.folder.iterdir()))}")

    def with_weights(self, header, data, source=None):
        model = self.broken(source)
        write_safetensors(model / "model.safetensors", header, data)
        return model

    def with_config(self, **changes):
        model = self.broken()
        config = json.loads((model / "config.json").read_text())
        config.update(changes)
        (model / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        return model

    def refused(self, model, *words, commands=("run", "plan", "inspect", "quantize", "evaluate")):
        """Each command that has to notice ends with 1 and names what is wrong."""
        text = self.folder / "text"
        text.write_text("word " * 50)
        calls = {"run": ["run", "-m", model, "-n", "1", "hi"], "plan": ["plan", model], "inspect": ["inspect", model],
                 "quantize": ["quantize", model, "-o", self.folder / "never"],
                 "evaluate": ["evaluate", model, "--text", text, "--window", "4"]}
        for command in commands:
            self.fail_with(ERROR, words, *calls[command])
        self.assertFalse((self.folder / "never").exists())

    def test_the_copies_are_good_when_nothing_is_broken(self):
        for source in (self.good, self.quantized):
            header, data = read_safetensors(source / "model.safetensors")
            self.answer("-m", self.with_weights(header, data, source), "-n", "1", "hi")


class Files(Broken):
    def test_nothing_there(self):
        self.refused(self.folder / "no-such-model", "no-such-model")
        (self.folder / "empty").mkdir()
        self.refused(self.folder / "empty", "config.json")

    def test_a_missing_file(self):
        for name, commands in (("config.json", ("run", "plan", "inspect", "quantize")),
                               ("model.safetensors", ("run", "inspect", "quantize")),
                               ("tokenizer.json", ("run", "evaluate"))):
            model = self.broken()
            (model / name).unlink()
            self.refused(model, str(model), name.replace("model.safetensors", "safetensors"), commands=commands)

    def test_without_weights_the_config_can_still_be_planned(self):
        model = self.broken()
        (model / "model.safetensors").unlink()
        self.assertEqual(self.succeed("plan", model, "--json").json()["evidence"], "config.json")

    def test_a_file_that_is_a_folder(self):
        for name, commands in (("config.json", ("run", "plan")), ("model.safetensors", ("run", "plan")),
                               ("tokenizer.json", ("run", "plan"))):
            model = self.broken()
            (model / name).unlink()
            (model / name).mkdir()
            self.refused(model, name, commands=commands)

    def test_a_missing_shard(self):
        model = self.broken()
        names = [n for n in self.header if n != "__metadata__"]
        index = {"metadata": {}, "weight_map": {n: f"part-{i % 2}.safetensors" for i, n in enumerate(names)}}
        for part in (0, 1):
            header, data = self.header, self.data
            for name in names[1 - part::2]:
                header, data = without_tensor(header, data, name)
            write_safetensors(model / f"part-{part}.safetensors", header, data)
        (model / "model.safetensors").unlink()
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        whole = self.answer("-m", self.good, "-n", "4", "--temperature", "0", "hi")["token_ids"]
        self.assertEqual(self.answer("-m", model, "-n", "4", "--temperature", "0", "hi")["token_ids"], whole)
        (model / "part-1.safetensors").unlink()
        self.refused(model, "part-1.safetensors", commands=("run", "plan", "inspect", "quantize"))
        (model / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../outside.safetensors"}}')
        self.refused(model, "../outside.safetensors", commands=("run",))


class Weights(Broken):
    def test_a_truncated_file(self):
        content = (self.good / "model.safetensors").read_bytes()
        header_end = 8 + struct.unpack("<Q", content[:8])[0]
        for size in (0, 1, 7, 8, 9, header_end // 2, header_end - 1, header_end, header_end + 1, len(content) // 2,
                     len(content) - 1):
            model = self.broken()
            (model / "model.safetensors").unlink()
            (model / "model.safetensors").write_bytes(content[:size])
            self.refused(model, "model.safetensors", commands=("run", "plan") if size % 2 else ("inspect", "quantize"))

    def test_a_lying_header(self):
        name = "layer_1.attention.q_proj.weight"
        begin, end = self.header[name]["data_offsets"]
        for change, word in (({"dtype": "F99"}, "F99"), ({"shape": [64, 65]}, "64"), 
                             ({"shape": [2 ** 40, 2 ** 40]}, name),
                             ({"data_offsets": [begin, end + 2]}, name), ({"data_offsets": [begin, 2 ** 63]}, name),
                             ({"data_offsets": [end, begin]}, name), ({"data_offsets": [begin + 2, end + 2]}, ""),
                             ({"shape": [-64, -64]}, ""), ({"shape": "64"}, name), ({"surprise": 1}, "surprise")):
            header = dict(self.header)
            header[name] = dict(header[name], **change)
            self.refused(self.with_weights(header, self.data), "model.safetensors", word, commands=("run",))
        for length in (2 ** 64 - 1, 2 ** 63, 10 ** 9, 2):
            model = self.broken()
            (model / "model.safetensors").unlink()
            (model / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}" * 50)
            self.refused(model, "model.safetensors", commands=("run",))

    def test_a_missing_tensor(self):
        for name in ("embed_tokens.weight", "layer_1.attention.k_proj.weight", "layer_2.ssm.A_log",
                     "layer_0.input_norm.weight"):
            self.refused(self.with_weights(*without_tensor(self.header, self.data, name)), name, "missing")

    def test_missing_parts_of_a_quantised_tensor(self):
        header, data = read_safetensors(self.quantized / "model.safetensors")
        for part in ("scales", "biases", "weight"):
            name = f"layer_1.attention.k_proj.{part}"
            self.refused(self.with_weights(*without_tensor(header, data, name), source=self.quantized),
                         "layer_1.attention.k_proj",
                         commands=("run", "inspect"))

    def test_an_unknown_tensor(self):
        header = dict(self.header)
        header["layer_9.surprise.weight"] = header.pop("layer_0.ssm.D")
        header["layer_0.ssm.D"] = {"dtype": "F32", "shape": [192], 
                                  "data_offsets": [len(self.data), len(self.data) + 768]}
        self.refused(self.with_weights(header, self.data + bytes(768)), "layer_9.surprise.weight", "unknown")

    def test_a_wrong_shape_or_type(self):
        name = "layer_1.attention.q_proj.weight"
        flat = dict(self.header, **{name: dict(self.header[name], shape=[4096])})
        self.refused(self.with_weights(flat, self.data), name, "[64, 64]", "[4096]")
        whole = dict(self.header, **{name: dict(self.header[name], dtype="I16")})
        self.refused(self.with_weights(whole, self.data), name, "I16")

    def test_values_that_are_no_numbers(self):
        for name in ("layer_1.attention.q_proj.weight", "embed_tokens.weight", "layer_2.moe.switch_mlp.up_proj.weight"):
            begin, end = self.header[name]["data_offsets"]
            for value, at in ((NAN16, begin), (INF16, end - 2)):
                data = self.data[:at] + value + self.data[at + 2:]
                for weights in ("keep", "q4"):
                    self.fail_with(ERROR, [name, "finite", f"element {(at - begin) // 2} "], "run", "-m",
                                   self.with_weights(self.header, data), "--weights", weights, "-n", "1", "hi")
        self.fail_with(ERROR, [name], "quantize", self.with_weights(self.header, data), "-o", self.folder / "never")
        self.assertFalse((self.folder / "never").exists())
        begin, _ = self.header["layer_0.ssm.A_log"]["data_offsets"]
        data = self.data[:begin + 8] + struct.pack("<f", float("nan")) + self.data[begin + 12:]
        self.refused(self.with_weights(self.header, data), "layer_0.ssm.A_log", "element 2 ", "finite",
                     commands=("run",))
        header, data = read_safetensors(self.quantized / "model.safetensors")
        begin, _ = header["embed_tokens.scales"]["data_offsets"]
        kind = {"BF16": NAN16, "F16": b"\x00\x7e"}[header["embed_tokens.scales"]["dtype"]]
        data = data[:begin] + kind + data[begin + 2:]
        for weights in ("keep", "bf16"):
            model = self.with_weights(header, data, self.quantized)
            self.fail_with(ERROR, ["embed_tokens", "finite"], "run", "-m", model, "--weights", weights, "-n", "1", "hi")


class Configs(Broken):
    def test_keys_and_values(self):
        for changes, words in (({"surprise": 1}, ["surprise"]), ({"hidden_dim": None}, ["hidden_dim"]),
                               ({"hidden_dim": 0}, ["hidden_dim"]), ({"hidden_dim": -64}, ["hidden_dim"]),
                               ({"hidden_dim": "64"}, ["hidden_dim"]), ({"hidden_dim": 64.5}, ["hidden_dim"]),
                               ({"hidden_dim": 2 ** 70}, ["hidden_dim"]), ({"num_heads": 7}, ["num_heads", "7", "64"]),
                               ({"moe_top_k": 9}, ["moe_top_k", "9", "8"]), 
                               ({"moe_shared_expert": False}, ["moe_shared_expert"]),
                               ({"rms_norm_eps": -1}, ["rms_norm_eps"]), ({"weight_tying": 1}, ["weight_tying"]),
                               ({"swa_window_size": 0}, ["swa_window_size"])):
            self.refused(self.with_config(**changes), "config.json", *words, commands=("run", "plan"))

    def test_a_config_of_another_model(self):
        self.refused(self.with_config(hidden_dim=128), "tensor ", "128", "64")
        self.refused(self.with_config(num_layers=6), "layer_", commands=("run", "inspect"))
        self.refused(self.with_config(vocab_size=4096), "4096", "8192", commands=("plan", "inspect"))
        self.refused(self.with_config(num_layers=2 ** 31), "config.json", commands=("run",))

    def test_text_that_is_no_config(self):
        for text in ("", "{", "[]", "null", '{"hidden_dim": 1, "hidden_dim": 2}', "{}", "[" * 100000, '{"a": ' * 1000,
                     "\0", "\xff" * 10):
            model = self.broken()
            (model / "config.json").write_text(text)
            self.refused(model, "config.json", commands=("run", "inspect"))


class Tokenizers(Broken):
    def test_more_ids_than_the_embedding_has(self):
        small = self.folder / "vocabulary"
        self.succeed("init", *TINY, "--set", "vocab_size=4096", "--tokenizer", "none", "-o", small)
        self.succeed("plan", small)
        shutil.copy(MODEL / "tokenizer.json", small)
        self.refused(small, "tokenizer.json", "8192", "4096", commands=("run", "plan", "evaluate"))

    def test_fewer_ids_than_the_embedding_has(self):
        large = self.new_model("large", *TINY, "--set", "vocab_size=9000")
        answer = self.answer("-m", large, "-n", "30", "--temperature", "5", "--top-k", "0", "--top-p", "1", "--seed",
                             "1", "hi")
        self.assertLess(max(answer["token_ids"]), 8192)

    def test_text_that_is_no_tokenizer(self):
        whole = (MODEL / "tokenizer.json").read_text()
        for text in ("", "{}", "[]", whole[:len(whole) // 2], whole.replace('"BPE"', '"WordPiece"', 1), "[" * 100000):
            model = self.broken()
            (model / "tokenizer.json").write_text(text)
            self.refused(model, "tokenizer.json", commands=("run", "plan"))


if __name__ == "__main__":
    main()
