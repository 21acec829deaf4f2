"""The miniature: its tokenizer, its networks, its training run, and what ships."""

import hashlib
import json
from itertools import pairwise

import pytest
import torch

from course_lib import cli, data, miniature, shapes
from course_lib.checkpoints import CheckpointError
from course_lib.miniature import LatentNet, MiniatureRun, autoencoder_loss, draw, pipeline, score, tokenizer
from course_lib.pretrained import Codec, load_folder, load_pipeline


@pytest.fixture(scope="module")
def words():
    return tokenizer()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the smallest size from beginning to end: its folder, and what it reported."""
    folder = tmp_path_factory.mktemp("mini")
    return folder, list(MiniatureRun(folder, steps=8, profile="smoke", seed=3, command="course train mini-sd"))


def weights(pipe):
    parts = (pipe.text_encoder, pipe.unet, pipe.vae)
    return {f"{i}.{name}": tensor for i, part in enumerate(parts) for name, tensor in part.state_dict().items()}


def same(one, other):
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_word_of_the_vocabulary_is_one_token(words):
    for word in shapes.VOCABULARY:
        assert words.tokenize(word) == [f"{word}</w>"], word


def test_the_longest_sentences_fit(words):
    sentences = [
        s for _, batch in zip(range(20), shapes.drawings(50, part="all"), strict=False) for s in batch.sentences
    ]
    longest = max(len(words(sentence).input_ids) for sentence in sentences)
    assert 15 < longest <= miniature.TOKENS
    ids = words(["a red ring", ""], padding="max_length", return_tensors="pt").input_ids
    assert ids.shape == (2, miniature.TOKENS)
    assert ids[1].unique().tolist() == [words.bos_token_id, words.eos_token_id]


def test_unknown_words_are_spelt_and_known_again(words):
    assert words.tokenize("zebra") == ["z", "e", "b", "r", "a</w>"]
    assert words.decode(words("a red zebra").input_ids, skip_special_tokens=True) == "a red zebra"


def test_networks_follow_the_seed_and_leave_random_numbers_alone():
    state = torch.get_rng_state()
    one, again, other = pipeline("smoke", 1), pipeline("smoke", 1), pipeline("smoke", 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(one, again) and not same(one, other)


def test_the_size_that_ships():
    pipe = pipeline("cpu")
    count = sum(w.numel() for part in (pipe.text_encoder, pipe.unet, pipe.vae) for w in part.parameters())
    assert 5.4e6 < count < 5.6e6  # the docstring of pipeline says 5.5 million
    assert type(pipe).__name__ == "StableDiffusionPipeline" and pipe.safety_checker is None


@pytest.mark.parametrize("profile", ["large", None, ["cpu"]])
def test_other_profiles_are_refused(profile):
    with pytest.raises(ValueError, match="expected profile smoke, cpu, gpu, got"):
        pipeline(profile)


def test_the_net_asks_the_u_net_as_diffusers_does(words):
    """Row t of ours is diffusers' timestep t - 1."""
    pipe = pipeline("smoke")
    net, z = LatentNet(pipe).eval(), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    tokens = words(["a red ring", "a blue star"], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        text = pipe.text_encoder(tokens)[0]
        theirs = pipe.unet(z, torch.tensor([0, 999]), encoder_hidden_states=text).sample
        assert torch.equal(net(z, torch.tensor([1, 1000]) / 1000, tokens), theirs)


def test_the_autoencoders_loss_is_its_formula():
    class Same(torch.nn.Module):
        """An autoencoder that gives pictures back a tenth brighter, from latents of mean 2 and variance 1/4."""

        def encode(self, x):
            mean, var = torch.full((len(x), 1), 2.0), torch.full((len(x), 1), 0.25)
            spread = type("Spread", (), {"mean": mean, "var": var, "std": var.sqrt(), "logvar": var.log()})
            self.x = x
            return type("Encoded", (), {"latent_dist": spread})

        def decode(self, z):
            return type("Decoded", (), {"sample": self.x + 0.1})

    x = torch.zeros(3, 3, 4, 4)
    divergence = (4 + 0.25 - 1 - torch.tensor(0.25).log()) / 2
    expected = 0.1 + 0.01 + miniature.KL * divergence
    assert torch.allclose(autoencoder_loss(Same(), x, torch.Generator().manual_seed(0)), expected)


def test_a_run_reports_each_step_and_leaves_a_pipeline(trained):
    folder, reports = trained
    assert [report.step for report in reports] == list(range(1, 9)) and {report.steps for report in reports} == {8}
    assert all(later.seconds > sooner.seconds for sooner, later in pairwise(reports))
    assert not (folder / "run").exists()
    pipe = load_folder(folder)
    assert draw(pipe, ["a red ring", "a blue star"], steps=2).shape == (2, 3, 32, 32)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert card["steps"] == 8 and card["seed"] == 3 and card["command"] == "course train mini-sd --steps 8"
    assert {"training", "held out"} < card["metrics"].keys() and card["metrics"]["held out"]["n"] == 10
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len(card["sha256"]) == 3


def test_what_diffusers_itself_loads_is_the_same(trained):
    import diffusers

    plain = diffusers.StableDiffusionPipeline.from_pretrained(trained[0])
    assert plain.unet.dtype == plain.vae.dtype == plain.text_encoder.dtype == torch.float32
    assert same(plain, load_folder(trained[0]))


def test_course_sd_may_name_it(trained, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_SD", str(trained[0]))
    assert same(load_pipeline(choices=()), load_folder(trained[0]))
    assert "The folder in COURSE_SD" in capsys.readouterr().out


@pytest.mark.parametrize("stop", [1, 4])  # while the autoencoder learns, and after
def test_a_stopped_run_goes_on_and_ends_as_one_that_never_stopped(trained, tmp_path, stop):
    for progress in MiniatureRun(tmp_path, steps=8, profile="smoke", seed=3):
        if progress.step == stop:
            break
    assert not (tmp_path / "model_index.json").exists()
    later = MiniatureRun(tmp_path, steps=100, profile="smoke", seed=3)  # the steps of the run that waits
    assert [progress.step for progress in later] == list(range(stop + 1, 9))
    assert same(load_folder(tmp_path), load_folder(trained[0]))
    assert list(later) == []


def test_a_run_that_is_left_and_taken_up_again_in_one_process(trained, tmp_path):
    run, steps = MiniatureRun(tmp_path, steps=8, profile="smoke", seed=3), []
    for _ in range(8):
        for progress in run:
            steps.append(progress.step)
            break
    assert steps == list(range(1, 9))
    assert list(run) == []
    assert same(load_folder(tmp_path), load_folder(trained[0]))


def test_another_run_in_the_folder_is_refused(tmp_path):
    next(iter(MiniatureRun(tmp_path, steps=8, profile="smoke", seed=3)))
    with pytest.raises(CheckpointError, match="choose another folder"):
        next(iter(MiniatureRun(tmp_path, steps=8, profile="smoke", seed=4)))


def test_latents_get_unit_variance_and_pictures_stay(tmp_path):
    run = MiniatureRun(tmp_path, steps=8, profile="smoke", seed=3)
    pictures = next(shapes.drawings(64, seed=9)).pictures
    before = run.pipe.vae.decode(run.pipe.vae.encode(pictures).latent_dist.mean).sample
    run._measure_latents()
    after = run.pipe.vae.decode(run.pipe.vae.encode(pictures).latent_dist.mean).sample
    assert torch.allclose(before, after, atol=1e-4)
    drawn = next(shapes.drawings(1000, seed=3)).pictures
    z = Codec(run.pipe).encode(drawn, torch.Generator().manual_seed(0))  # as the U-Net gets them
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(4), atol=0.02)
    assert torch.allclose(z.std((0, 2, 3)), torch.ones(4), atol=0.02)


def test_a_run_draws_what_it_has_learnt_so_far(tmp_path):
    run, shown = MiniatureRun(tmp_path, steps=8, profile="smoke", seed=3), []
    for progress in run:
        if progress.step in (1, 2, 3, 8):
            shown.append(run.draw(3))
    assert all(x.shape == (3, 3, 32, 32) and x.abs().max() <= 1 for x in shown)
    asked = next(shapes.drawings(3, brief=0, seed=3)).pictures.contiguous()
    codec = Codec(pipeline("smoke", 3))
    first = codec.decode(codec.encode(asked, torch.Generator().manual_seed(0)))
    assert (shown[0] - first).abs().mean() < 0.2  # after one step: what the autoencoder makes of the pictures
    assert not torch.equal(shown[2], shown[3])


def test_minutes_become_steps(tmp_path):
    run = MiniatureRun(tmp_path, minutes=0.05, profile="smoke")
    assert run.steps % 4 == 0 and run.steps * run.step_seconds <= 3.0 + 4 * run.step_seconds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "expected steps or minutes, one of the two"),
        ({"steps": 8, "minutes": 1}, "expected steps or minutes, one of the two"),
        ({"steps": 3}, "expected steps"),
        ({"minutes": 0}, "expected minutes"),
        ({"steps": 8, "seed": -1}, "expected seed"),
        ({"steps": 8, "profile": "huge"}, "expected profile"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, arguments, said):
    with pytest.raises((TypeError, ValueError), match=said):
        MiniatureRun(tmp_path, **arguments)


def test_the_same_call_draws_the_same_pictures(trained):
    pipe, sentences = load_folder(trained[0]), ["a red ring", "a blue star"]
    assert torch.equal(draw(pipe, sentences, steps=3, seed=5), draw(pipe, sentences, steps=3, seed=5))
    assert not torch.equal(draw(pipe, sentences, steps=3, seed=5), draw(pipe, sentences, steps=3, seed=6))


def test_the_score_is_the_judges(trained, monkeypatch):
    """Asked for truth itself, it counts every picture as right; and the two parts ask for other things."""
    asked = {}

    def rendered(pipe, sentences, **_):
        asked[len(asked)] = sentences
        return shapes.render([shapes.parse(sentence) for sentence in sentences])

    monkeypatch.setattr(miniature, "draw", rendered)
    for part in ("training", "held out"):
        assert score(None, 40, part)["colour_shape_place"] == 1.0
    assert [{shapes.held_out(shapes.parse(s)) for s in asked[i]} for i in (0, 1)] == [{False}, {True}]


def test_the_command_trains_it_and_the_command_draws_with_it(tmp_path, capsys):
    folder, out = tmp_path / "mini", tmp_path / "ring.npy"
    assert cli.main(["train", "mini-sd", "--steps", "4", "--profile", "smoke", "--out", str(folder)]) == 0
    assert "4 steps of" in capsys.readouterr().out and (folder / "samples.png").is_file()
    draws = ["sample", "--weights", str(folder), "-n", "3", "--steps", "2", "--out", str(out)]
    assert cli.main([*draws, "--prompt", "a red ring", "--png"]) == 0
    assert "3 pictures of (3, 32, 32)" in capsys.readouterr().out and out.with_suffix(".png").is_file()
    as_it_comes = out.read_bytes()
    for scale, same in {"4": True, "1": False}.items():
        assert cli.main([*draws, "--prompt", "a red ring", "--scale", scale]) == 0
        assert (out.read_bytes() == as_it_comes) is same
    for more, said in {
        (): "expected --prompt for the miniature",
        ("--prompt", "a ring", "--label", "3"): "expected no --label with the miniature",
        ("--prompt", "a ring", "--sampler", "dpm"): "expected no --sampler with the miniature",
    }.items():
        assert cli.main([*draws, *more]) == 1
        assert said in capsys.readouterr().err
    digits = ["sample", "--weights", str(data.shipped("mnist-ddpm")), "--prompt", "a ring", "--out", str(out)]
    assert cli.main(digits) == 1 and "only mini-sd reads sentences" in capsys.readouterr().err


def test_a_stopped_run_waits_for_resume(tmp_path, capsys):
    next(iter(MiniatureRun(tmp_path, steps=8, profile="smoke")))
    train = ["train", "mini-sd", "--steps", "8", "--profile", "smoke", "--out", str(tmp_path)]
    assert cli.main(train) == 1 and "go on with --resume" in capsys.readouterr().err
    assert cli.main([*train, "--resume"]) == 0 and (tmp_path / "model_index.json").is_file()


def test_what_ships_draws_what_it_is_told():
    """Its card says how well: N = 250 each; here N = 40 each."""
    pipe = load_folder(data.shipped("mini-sd"))
    assert score(pipe, 40, "training", seed=1)["colour_shape_place"] >= 0.85
    assert score(pipe, 40, "held out", seed=1)["colour_shape_place"] >= 0.7


def test_what_ships_is_what_its_card_says_and_is_small():
    folder = data.shipped("mini-sd")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert card["metrics"]["training"]["colour_shape_place"] >= 0.9 and card["metrics"]["training"]["n"] == 250
    assert card["metrics"]["held out"]["colour_shape_place"] >= 0.75 and card["metrics"]["held out"]["n"] == 250
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt"}
    assert not (folder / "run").exists()


def test_what_ships_is_found_without_network_and_without_asking(monkeypatch, capsys):
    monkeypatch.delenv("COURSE_SD", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*where, **_):
        raise AssertionError(f"asked the network: {where}")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    pipe = load_pipeline(choices=())
    assert draw(pipe, ["a red ring"], steps=2).shape == (1, 3, 32, 32)
    assert "The miniature of the course" in capsys.readouterr().out
