"""`course bench sd`: the full size counted, rows measured on the miniature, and what does not fit told."""

import json
import subprocess
import sys

import pytest
import torch

from course_lib import bench_sd, cli


def test_the_full_size_is_that_of_stable_diffusion_1():
    """As many weights as the published files hold."""
    pipe = bench_sd.full_size(device="meta")
    count = {name: sum(w.numel() for w in getattr(pipe, name).parameters()) for name in ("unet", "text_encoder", "vae")}
    assert count == {"unet": 859_520_964, "text_encoder": 123_060_480, "vae": 83_653_863}
    assert {w.device.type for w in pipe.unet.parameters()} == {"meta"}
    assert pipe.tokenizer.model_max_length == pipe.text_encoder.config.max_position_embeddings == 77


def test_random_weights_are_finite_and_positions_count():
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        part = CLIPTextModel(
            CLIPTextConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        )
    part = bench_sd._random(part, "cpu")
    assert all(w.isfinite().all() and 0.01 < w.std() < 0.03 for w in part.parameters() if w.numel() > 99)
    positions = [b for name, b in part.named_buffers() if name.endswith("position_ids")]
    assert positions and all(torch.equal(b.flatten(), torch.arange(77)) for b in positions)


def test_a_row_says_what_ran_and_what_it_took():
    row = bench_sd.measure("single precision", 64, model="miniature", device="cpu", steps=2)
    assert row["model"] == "miniature, random weights" and row["dtype"] == "float32" and row["device"] == "cpu"
    assert row["seconds a step"] > 0 and row["seconds to decode"] > 0
    assert 0.1 < row["peak GB"] < 20


@pytest.mark.parametrize("option", ["half precision", "half, attention written out", "half, attention slicing"])
def test_each_option_switches_on_what_it_names(monkeypatch, option):
    made = []
    monkeypatch.setattr(
        bench_sd.miniature, "pipeline", lambda make=bench_sd.miniature.pipeline: made.append(make()) or made[0]
    )
    row = bench_sd.measure(option, 64, model="miniature", device="cpu", steps=1)
    kinds = {type(processor).__name__ for processor in made[0].unet.attn_processors.values()}
    expected = {"half precision": "AttnProcessor2_0", "half, attention written out": "AttnProcessor"}
    assert kinds == {expected.get(option, "SlicedAttnProcessor")}
    assert row["dtype"] == "bfloat16" and made[0].unet.dtype == torch.bfloat16


def test_offload_needs_a_gpu():
    row = bench_sd.measure("half, offload layer by layer", 64, model="miniature", device="cpu")
    assert row["note"] == "needs a GPU" and "seconds a step" not in row


@pytest.mark.parametrize("wrong", [{"option": "quarter precision"}, {"model": "sdxl"}, {"size": 0}, {"steps": 0}])
def test_what_it_does_not_know_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        bench_sd.measure(**{"option": "half precision", "size": 64, "model": "miniature", "device": "cpu"} | wrong)


def test_each_row_is_a_process_and_what_does_not_fit_is_told(monkeypatch):
    calls = []

    def run(command, **_):
        calls.append(command)
        asked = json.loads(command[-1])
        ends = {
            64: (0, json.dumps({"option": "single precision", "size": 64, "seconds a step": 1.0}), ""),
            128: (-9, "", ""),
            192: (1, "", "Traceback\ntorch.OutOfMemoryError: CUDA out of memory"),
            256: (1, "", "Traceback\nValueError: something else"),
        }
        return subprocess.CompletedProcess(command, *ends[asked["size"]])

    monkeypatch.setattr(bench_sd.subprocess, "run", run)
    rows = list(bench_sd.bench([64, 128, 192, 256], ["single precision"], model="miniature"))
    assert [row.get("note") for row in rows] == [None, *["did not fit into memory"] * 2, "ValueError: something else"]
    assert calls[0][:3] == [sys.executable, "-m", "course_lib.bench_sd"]
    lines = bench_sd.table(rows).splitlines()
    assert len(lines) == 6 and "| 64 x 64 | 1.0 |" in lines[2] and "did not fit into memory" in lines[3]


def test_the_command_prints_the_table_and_writes_the_rows(tmp_path, capsys):
    out = tmp_path / "rows.json"
    bench = ["bench", "sd", "--model", "miniature", "--steps", "1", "--device", "cpu"]
    options = ["--options", "single precision", "half, offload part by part"]
    assert cli.main([*bench, "--sizes", "64", *options, "--out", str(out)]) == 0
    shown, rows = capsys.readouterr().out, json.loads(out.read_text(encoding="utf-8"))
    assert "no picture comes of them" in shown and shown.count("| 64 x 64 |") == 2 and "needs a GPU" in shown
    assert [row["option"] for row in rows] == options[1:] and rows[0]["seconds a step"] > 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--options", "quarter precision"], "expected --options among single precision"),
        (["--sizes", "500"], "expected --sizes in multiples of 64 pixels, got 500"),
    ],
)
def test_the_command_refuses_before_it_measures(more, said, capsys):
    assert cli.main(["bench", "sd", *more]) == 1
    assert said in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        bench_sd, "bench", lambda *_, **__: iter([{"option": "half precision", "size": 64, "note": "x"}])
    )
    assert cli.main(["bench", "sd", "--out", str(tmp_path / "no" / "rows.json")]) == 1
    assert "cannot be written" in capsys.readouterr().err
