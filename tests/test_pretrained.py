"""The pipeline adapter against diffusers itself, and the search for weights against every way in which it can fail.

The pipeline is a miniature of the real classes with random weights; the hub is a server of this process.
"""

import errno
import functools
import json
import pickle
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import diffusers
import huggingface_hub
import pytest
import torch
from hub_made_up import COMMIT, Hub
from miniature_made_up import pipeline

from course_lib import pretrained, schedules
from course_lib.pretrained import CHOICES, Choice, Codec, PretrainedError, load_pipeline, open_pipeline, times
from course_lib.samplers import ddim_step, dpm_step, heun_step, sample, sample_steps
from course_lib.widgets import StepPlayer

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # torch and numpy, within diffusers
PROMPTS, NEGATIVES = ["a red ball", "a blue box on the left"], ["blue", "red of"]
TOLERANCE = 1e-4


def worst(found, expected):
    return float((found - expected).abs().max())


def noise(*shape, seed=0):
    return torch.randn(shape or (2, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


@functools.cache
def shared(*kind):
    """Return one pipeline for all tests that leave it as it is."""
    return pipeline(*kind)


def ours(pipe, prompt, negative=None, scale=1.0, steps=8, step=ddim_step, x_T=None):
    predict, schedule, _ = open_pipeline(pipe, prompt, negative, scale)
    return sample(step, predict, schedule, noise() if x_T is None else x_T, times(pipe, steps))


def theirs(pipe, prompt, negative=None, scale=1.0, steps=8, x_T=None, output="latent", **more):
    x_T = noise() if x_T is None else x_T
    return pipe(
        prompt, negative_prompt=negative, guidance_scale=scale, num_inference_steps=steps, latents=x_T.clone(),
        output_type=output, **more,
    ).images  # fmt: skip


# ---- equality with diffusers: fp32, CPU


@pytest.mark.parametrize("negative", [None, "blue", NEGATIVES], ids=["no negative", "one", "one each"])
@pytest.mark.parametrize("scale", [1.0, 2.0, 7.5])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_our_ddim_is_the_pipelines(kind, scale, negative):
    """Random weights remove no noise, so latents of an eps network grow to 30; elsewhere they stay about 3."""
    expected = theirs(shared(kind), PROMPTS, [negative] * 2 if negative == "blue" else negative, scale)
    assert worst(ours(shared(kind), PROMPTS, negative, scale), expected) < TOLERANCE


def test_prompts_negatives_and_scale_all_matter_to_the_miniature():
    """Otherwise the equalities would hold for one who mixed them up."""
    plain = ours(shared("v_prediction"), PROMPTS, NEGATIVES, 3.0)
    for other in [(PROMPTS[::-1], NEGATIVES, 3.0), (PROMPTS, NEGATIVES[::-1], 3.0), (PROMPTS, NEGATIVES, 1.0)]:
        assert worst(ours(shared("v_prediction"), *other), plain) > 100 * TOLERANCE


def test_one_prompt_serves_a_batch_and_several_have_neighbours():
    pipe, x_T = shared("v_prediction"), noise(4, 4, 8, 8)
    assert worst(ours(pipe, "a red ball", "blue", 3.0, x_T=x_T), theirs(
        pipe, ["a red ball"] * 4, ["blue"] * 4, 3.0, x_T=x_T)) < TOLERANCE  # fmt: skip
    expected = theirs(pipe, PROMPTS, NEGATIVES, 3.0, x_T=x_T, num_images_per_prompt=2)
    assert worst(ours(pipe, PROMPTS, NEGATIVES, 3.0, x_T=x_T), expected) < TOLERANCE


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("scheduler", "step"),
    [
        ("EulerDiscreteScheduler", ddim_step),
        ("DPMSolverMultistepScheduler", dpm_step),
        ("HeunDiscreteScheduler", heun_step),
    ],
)
def test_our_other_samplers_are_the_pipelines(scheduler, step, kind):
    """Euler in sigma is DDIM, and DPM-Solver++(2M) dpm_step, once diffusers begins at the row where we do."""
    pipe = pipeline(kind, scheduler)
    assert worst(ours(pipe, PROMPTS, NEGATIVES, 3.0, step=step), theirs(pipe, PROMPTS, NEGATIVES, 3.0)) < TOLERANCE


def test_ddim_at_zero_terminal_snr_with_trailing_steps():
    pipe = pipeline("v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", set_alpha_to_one=True)
    assert times(pipe, 4) == schedules.linear_beta().steps(4)
    assert worst(ours(pipe, PROMPTS, None, 3.0), theirs(pipe, PROMPTS, None, 3.0)) < TOLERANCE


def test_decoded_it_is_the_pipelines_picture():
    pipe = shared("v_prediction")
    x = Codec(pipe).decode(ours(pipe, PROMPTS, None, 3.0))
    assert x.shape == (2, 3, 16, 16) and x.dtype == torch.float32
    assert worst((x + 1) / 2, theirs(pipe, PROMPTS, None, 3.0, output="pt")) < TOLERANCE


def test_the_schedule_is_the_schedulers_table_with_a_clean_row_in_front():
    pipe = shared("epsilon")
    _, schedule, _ = open_pipeline(pipe, "a")
    assert schedule.T == 1000 and schedule.alpha_bar[0] == 1
    assert worst(schedule.alpha_bar[1:], pipe.scheduler.alphas_cumprod.double()) < 1e-12
    x0, eps = noise(), noise(seed=1)
    expected = pipe.scheduler.add_noise(x0, eps, torch.tensor([0, 999]))
    assert worst(schedule.add_noise(x0, torch.tensor([1, 1000]), eps), expected) < 1e-6


# ---- the rows that a pipeline visits


def test_times_of_ddim_end_where_set_alpha_to_one_says():
    """Stable Diffusion 1's own scheduler keeps the noise of timestep 0, which is our row 1."""
    assert times(shared("epsilon"), 5) == [802, 602, 402, 202, 2, 1]
    assert times(pipeline(set_alpha_to_one=True), 5) == [802, 602, 402, 202, 2, 0]
    pipe = pipeline()
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, steps_offset=0)
    assert times(pipe, 5) == [801, 601, 401, 201, 1]  # the last step, from row 1 to row 1, would change nothing


@pytest.mark.parametrize(
    ("scheduler", "options", "expected"),
    [
        ("EulerDiscreteScheduler", {}, [802, 602, 402, 202, 2, 0]),
        ("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min"}, [802, 602, 402, 202, 2, 1]),
        ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}, [1000, 750, 501, 251, 1, 0]),  # rounded
        ("DPMSolverMultistepScheduler", {}, [832, 666, 500, 334, 168, 0]),
        ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}, [1000, 800, 600, 400, 200, 0]),
        ("PNDMScheduler", {"skip_prk_steps": True}, [802, 602, 402, 202, 2, 1]),  # it visits one row twice
        ("DDPMScheduler", {"clip_sample": False}, [802, 602, 402, 202, 2, 0]),
    ],
)
def test_times_of_other_schedulers(scheduler, options, expected):
    pipe = pipeline("epsilon", scheduler, **options)
    pipe.scheduler.set_timesteps(3)
    before = pipe.scheduler.timesteps.tolist()
    assert times(pipe, 5) == expected
    assert pipe.scheduler.timesteps.tolist() == before  # asked on a copy


def test_a_scheduler_made_from_anothers_settings_is_asked_what_it_does_itself():
    """from_config keeps the other's options: set_alpha_to_one, which Euler does not know, and clip_sample."""
    pipe = pipeline("v_prediction")
    settings = dict(pipe.scheduler.config) | {"clip_sample": True}
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(settings)
    assert times(pipe, 5)[-1] == 0
    assert worst(ours(pipe, PROMPTS), theirs(pipe, PROMPTS)) < TOLERANCE


def test_times_refuses_what_reaches_beyond_the_table():
    with pytest.raises(ValueError, match="expected fewer steps, got 1000"):
        times(shared("epsilon"), 1000)
    for steps, error in ((0, ValueError), (1001, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="expected steps"):
            times(shared("epsilon"), steps)


# ---- the codec


def test_encode_draws_as_diffusers_does_and_decode_is_its_inverse_in_units():
    pipe, x = pipeline(), torch.tanh(noise(2, 3, 16, 16))
    for shift in (None, 0.25):
        pipe.vae.register_to_config(shift_factor=shift)
        codec, scaling = Codec(pipe), pipe.vae.config.scaling_factor
        with torch.no_grad():
            z = pipe.vae.encode(x).latent_dist.sample(torch.Generator().manual_seed(5))
            expected = (z - (shift or 0)) * scaling
            latents = codec.encode(x, torch.Generator().manual_seed(5))
            assert latents.shape == (2, 4, 8, 8) and worst(latents, expected) < 1e-6
            assert worst(codec.decode(latents), pipe.vae.decode(z).sample.clamp(-1, 1)) < 1e-5
        assert worst(codec.encode(x, torch.Generator().manual_seed(6)), expected) > 0.01  # a draw, not a mean


def test_the_player_shows_latents_as_pictures():
    pipe = shared("v_prediction")
    predict, schedule, codec = open_pipeline(pipe, PROMPTS, None, 3.0)
    steps = list(sample_steps(ddim_step, predict, schedule, noise(), times(pipe, 3)))
    player = StepPlayer(steps, alt="Two pictures come out of noise.", rates=schedule, codec=codec)
    channels = player.score["runs"][0]["channels"]
    for name, shape in {"x_t": (3, 16, 16), "x0": (3, 16, 16), "eps": (1, 8, 8)}.items():
        assert tuple(channels[name][key] for key in ("channels", "height", "width")) == shape
        assert channels[name]["frames"] == 4
    black = SimpleNamespace(decode=lambda latents: torch.full((len(latents), 3, 16, 16), -1.0))
    other = StepPlayer(steps, alt="Two pictures stay black.", rates=schedule, codec=black)
    assert len(other.data) < len(player.data) / 2  # so the pictures are the codec's


def checker(threshold):
    """Return a StableDiffusionSafetyChecker of no size that flags a picture when a cosine exceeds threshold."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config=size | {"image_size": 8, "patch_size": 4, "projection_dim": 8}, projection_dim=8)
    model = StableDiffusionSafetyChecker(config).eval()
    for weights in (model.concept_embeds_weights, model.special_care_embeds_weights):
        weights.data.fill_(threshold)
    return model, CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})


@pytest.mark.parametrize(("threshold", "black"), [(-2.0, True), (2.0, False)])
def test_the_safety_checker_guards_our_pictures_too(threshold, black):
    pipe = pipeline("v_prediction")
    pipe.safety_checker, pipe.feature_extractor = checker(threshold)
    x = Codec(pipe).decode(ours(pipe, PROMPTS))
    assert worst((x + 1) / 2, theirs(pipe, PROMPTS, output="pt")) < TOLERANCE
    assert bool((x == -1).all()) == black


def test_one_flagged_picture_leaves_the_others_alone():
    pipe, latents = pipeline("v_prediction"), noise()
    expected = Codec(pipe).decode(latents)
    pipe.safety_checker, pipe.feature_extractor = checker(2.0)
    pipe.safety_checker.forward = lambda images, clip_input: (images, [False, True])
    x = Codec(pipe).decode(latents)
    assert worst(x[0], expected[0]) == 0 and bool((x[1] == -1).all())


# ---- precision, doors


def test_a_network_of_half_precision_keeps_float32_between_the_steps():
    pipe = pipeline("v_prediction").to(torch.bfloat16)
    predict, schedule, codec = open_pipeline(pipe, PROMPTS, None, 3.0)
    steps = list(sample_steps(ddim_step, predict, schedule, noise(), times(pipe, 8)))
    assert {step.x_next.dtype for step in steps} == {torch.float32}
    expected = ours(shared("v_prediction"), PROMPTS, None, 3.0)
    assert 0 < worst(steps[-1].x_next, expected) < 0.3  # bfloat16 has 8 bits
    assert codec.decode(steps[-1].x_next).dtype == codec.encode(torch.zeros(1, 3, 16, 16)).dtype == torch.float32


def test_other_texts_may_be_asked_by_cond():
    pipe = shared("v_prediction")
    predict, schedule, _ = open_pipeline(pipe, PROMPTS, None, 3.0)
    with torch.no_grad():
        other, _ = pipe.encode_prompt(PROMPTS[::-1], "cpu", 1, False)
    x0 = sample(ddim_step, predict, schedule, noise(), times(pipe, 4), other)
    assert worst(x0, theirs(pipe, PROMPTS[::-1], None, 3.0, steps=4)) < TOLERANCE


def edited(part, **config):
    """Return a pipeline one of whose parts says something else of itself."""
    pipe = pipeline()
    getattr(pipe, part).register_to_config(**config)
    return pipe


BLACK, LATENTS = torch.zeros(1, 3, 16, 16), torch.zeros(1, 4, 8, 8)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: open_pipeline("a pipe", "a"), TypeError, "expected a StableDiffusionPipeline"),
        (lambda: open_pipeline(shared(), 3), TypeError, "expected prompt as a text"),
        (lambda: open_pipeline(shared(), []), TypeError, "expected prompt as a text"),
        (lambda: open_pipeline(shared(), ["a", None]), TypeError, "expected prompt as a text"),
        (lambda: open_pipeline(shared(), "a", 3), TypeError, "expected negative_prompt as a text"),
        (lambda: open_pipeline(shared(), ["a"] * 3, ["b"] * 2), ValueError, "expected one negative_prompt, or 3"),
        (lambda: open_pipeline(shared(), "a", scale=-1), ValueError, "expected scale"),
        (lambda: open_pipeline(edited("unet", in_channels=9), "a"), ValueError, "takes 9 channels as well"),
        (lambda: open_pipeline(edited("unet", time_cond_proj_dim=8), "a"), ValueError, "time_cond_proj_dim as well"),
        (lambda: open_pipeline(edited("scheduler", clip_sample=True), "a"), ValueError, "does not clip.*clip_sample"),
        (lambda: open_pipeline(edited("scheduler", thresholding=True), "a"), ValueError, "does not clip.*thresholding"),
        (lambda: open_pipeline(edited("scheduler", prediction_type="flow"), "a"), ValueError, "with flow: take DDIM"),
        (lambda: open_pipeline(pipeline(rescale_betas_zero_snr=True), "a"), ValueError, "use objectives.v"),
        (lambda: open_pipeline(shared(), "a")[0](LATENTS.half(), torch.tensor([5])), TypeError, "latents in float32"),
        (lambda: open_pipeline(shared(), "a")[0](LATENTS.to("meta"), torch.tensor([5])), ValueError, "latents on cpu"),
        (lambda: open_pipeline(shared(), ["a", "b"])[0](LATENTS, torch.tensor([5])), ValueError, "expected 2 latents"),
        (lambda: open_pipeline(shared(), "a")[0](LATENTS, torch.tensor([0])), ValueError, "expected t in 1..1000"),
        (lambda: Codec(None), TypeError, "expected a StableDiffusionPipeline"),
        (lambda: Codec(shared()).decode(BLACK), ValueError, r"expected latents of shape \(N, 4, h, w\)"),
        (lambda: Codec(shared()).encode(LATENTS), ValueError, r"expected pictures of shape \(N, 3, H, W\)"),
        (lambda: Codec(shared()).encode(BLACK[..., :15]), ValueError, "multiples of 2"),
        (lambda: Codec(shared()).encode(BLACK + 2), ValueError, r"expected pictures in \[-1, 1\], got 2 to 2"),
        (lambda: Codec(shared()).encode(BLACK / 0), ValueError, r"expected pictures in \[-1, 1\], got nan"),
        (lambda: load_pipeline("good/sd"), TypeError, "expected choices as a list of Choice"),
        (lambda: load_pipeline(["good/sd"]), TypeError, "expected choices as a list of Choice"),
        (lambda: load_pipeline(device="gpu"), ValueError, "expected device cuda, mps or cpu"),
        (lambda: load_pipeline(device="cpu", memory=-1), ValueError, "expected memory"),
    ],
)
def test_doors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_importing_costs_no_diffusers():
    code = "import sys, course_lib.pretrained; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    slow = ["diffusers", "transformers", "huggingface_hub"]
    done = subprocess.run([sys.executable, "-c", code, *slow], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- the search for weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the folder of a whole pipeline as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("pipeline") / "saved"
    pipeline("v_prediction").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """Return the folder of a pipeline whose only weights are of half precision."""
    folder = tmp_path_factory.mktemp("pipeline") / "halved"
    pipeline("v_prediction").to(torch.float16).save_pretrained(folder, variant="fp16")
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Return a hub of this process, with an empty cache."""
    made_up = Hub()
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", made_up.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", made_up.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield made_up
    made_up.close()


@pytest.fixture(autouse=True)
def miniature(monkeypatch, saved):
    """Let a miniature ship with the course, and COURSE_SD name nothing."""
    monkeypatch.delenv("COURSE_SD", raising=False)
    monkeypatch.setattr(pretrained, "shipped", lambda name: {"mini-sd": saved}[name])


def choice(name, memory=0.0):
    return Choice(name, COMMIT, "a licence", 0.0, memory)


def search(*choices, device="cpu", **more):
    """Load, and return the pipeline with all that was said, each in one sentence."""
    said = []
    pipe = load_pipeline(choices, device=device, say=said.append, **more)
    assert all(line.endswith(".") and "\n" not in line and len(line) < 250 for line in said), said
    return pipe, said


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(folder).rglob("*") if path.is_file()}


MINIATURE = "The miniature of the course, float32 on cpu, without a safety checker: it runs anywhere."


def test_the_folder_in_course_sd_comes_first(monkeypatch, hub, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "mine")
    monkeypatch.setenv("COURSE_SD", str(folder))
    before = state(folder)
    pipe, said = search(choice("good/sd"))
    assert said == ["The folder in COURSE_SD, float32 on cpu, without a safety checker: COURSE_SD comes first."]
    assert hub.asked == [] and state(folder) == before
    assert worst(ours(pipe, PROMPTS), ours(shared("v_prediction"), PROMPTS)) == 0


def test_the_first_model_that_the_hub_has_is_fetched_once(hub, saved):
    hub.models = {"good/sd": saved, "other/sd": saved}
    pipe, said = search(choice("gone/sd"), choice("good/sd"), choice("other/sd"))
    assert said == [
        "gone/sd is passed over: the hub does not have it, or no more: choose another model.",
        "good/sd, float32 on cpu, without a safety checker: the first of the list to be had "
        f"(commit {COMMIT[:7]}, licence a licence).",
    ]
    assert worst(ours(pipe, PROMPTS), ours(shared("v_prediction"), PROMPTS)) == 0
    assert "unet/diffusion_pytorch_model.safetensors" in hub.sent and not any("other" in path for path in hub.asked)
    hub.close()  # from now on only the cache is there
    hub.asked.clear()
    again, said = search(choice("good/sd"))
    assert said[0].startswith("good/sd, float32 on cpu") and hub.asked == []
    assert worst(ours(again, PROMPTS), ours(pipe, PROMPTS)) == 0


def test_what_the_cache_has_outlives_its_removal_from_the_hub(hub, saved):
    hub.models = {"good/sd": saved}
    search(choice("good/sd"))
    for fate in (None, "gated"):
        hub.models = {"good/sd": fate}
        assert search(choice("good/sd"))[1][0].startswith("good/sd, float32 on cpu")


def test_a_gated_model_is_passed_over(hub):
    hub.models = {"gated/sd": "gated"}
    _, said = search(choice("gated/sd"))
    assert said[0].startswith("gated/sd is passed over: its owner asks for consent first: agree on its page")
    assert said[1:] == [MINIATURE]


def test_no_network(hub):
    hub.close()
    _, said = search(choice("good/sd"))
    assert said[0].startswith(
        "good/sd is passed over: the hub was not reached and its cache has not all of it: connect"
    )
    assert said[1:] == [MINIATURE]


def test_offline_by_choice_asks_nobody(monkeypatch, hub, saved):
    hub.models = {"good/sd": saved}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    _, said = search(choice("good/sd"))
    assert "unset HF_HUB_OFFLINE" in said[0] and said[1:] == [MINIATURE]
    assert hub.asked == []


def test_a_download_cut_short_leaves_nothing_half_written_and_goes_on_later(hub, saved, tmp_path):
    hub.models, unet = {"good/sd": saved}, "unet/diffusion_pytorch_model.safetensors"
    hub.cut = {unet}
    _, said = search(choice("good/sd"))
    assert said[0].startswith("good/sd is passed over: ") and said[1:] == [MINIATURE]
    whole, kept = {content for _, content in state(saved).values()}, state(tmp_path / "cache")
    assert not [path for path in kept if path.name.endswith(".incomplete") or path.as_posix().endswith(unet)]
    assert all(content in whole for path, (_, content) in kept.items() if path.parent.name == "blobs")
    arrived = {path.relative_to(path.parents[1]).as_posix() for path in kept if "snapshots" in path.parts}
    hub.cut.clear()
    hub.sent.clear()
    _, said = search(choice("good/sd"))
    assert said[0].startswith("good/sd, float32 on cpu")
    assert unet in hub.sent and not arrived & set(hub.sent)


def test_a_half_downloaded_cache_is_no_pipeline(monkeypatch, hub, saved, tmp_path):
    hub.models = {"good/sd": saved}
    search(choice("good/sd"))
    (weights,) = (tmp_path / "cache").rglob("snapshots/*/unet/*.safetensors")
    weights.unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    _, said = search(choice("good/sd"))
    assert said[0].startswith("good/sd is passed over: ") and said[1:] == [MINIATURE]


def test_a_full_disk_is_told(monkeypatch, hub, saved):
    hub.models = {"good/sd": saved}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    _, said = search(choice("good/sd"))
    assert said[0] == "good/sd is passed over: the disk is full: free some space, or set HF_HOME to a larger disk."
    assert said[1:] == [MINIATURE]


def test_a_small_memory_is_told_before_anything_is_fetched(hub):
    _, said = search(*CHOICES, memory=3.0)
    assert [line.split(":")[0] for line in said[:-1]] == [f"{one.id} is passed over" for one in CHOICES]
    assert all("it needs 6.2 GB of memory on cpu and 3.0 GB are free" in line for line in said[:-1])
    assert said[-1] == MINIATURE and hub.asked == []


def test_the_memory_that_is_free_is_measured(hub, saved):
    hub.models = {"good/sd": saved}
    _, said = search(choice("good/sd", memory=1e6), choice("good/sd", memory=1e-6))
    assert "it needs 1000000.0 GB of memory" in said[0] and said[1].startswith("good/sd, float32 on cpu")


def test_memory_that_runs_out_on_the_way_is_told(monkeypatch, saved):
    to, tried = diffusers.StableDiffusionPipeline.to, []

    def small(pipe, *where):
        tried.append(where)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return to(pipe, *where)

    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "to", small)
    monkeypatch.setenv("COURSE_SD", str(saved))
    _, said = search()
    assert "it does not fit into the memory of cpu: close what uses it" in said[0] and said[1:] == [MINIATURE]


def test_without_a_gpu_nothing_is_downloaded_unasked(monkeypatch, hub):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    _, said = search(*CHOICES, device=None)
    assert said[0].startswith("Stable Diffusion itself is passed over: there is no GPU") and said[1:] == [MINIATURE]
    assert hub.asked == []


def test_a_device_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="which this machine has, got cuda: leave device out"):
        load_pipeline(device="cuda")


def spoil(folder, how):
    """Break the copy of a pipeline's folder in one of the ways in which they come."""
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if how == "missing":
        shutil.rmtree(folder)
    elif how == "no index":
        (folder / "model_index.json").unlink()
    elif how == "torn index":
        (folder / "model_index.json").write_text("{", encoding="utf-8")
    elif how == "other kind":
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        index["_class_name"] = "StableDiffusionXLPipeline"
        (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    elif how == "half there":
        unet.unlink()
    elif how == "cut":
        unet.write_bytes(unet.read_bytes()[:1000])
    elif how == "pointer":
        unet.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", encoding="utf-8")
    elif how == "shard":
        index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
        unet.rename(unet.with_name("one.safetensors"))
        unet.with_name(f"{unet.name}.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "it has no model_index.json that can be read: name a folder"),
        ("no index", "it has no model_index.json that can be read: name a folder"),
        ("torn index", "it has no model_index.json that can be read: name a folder"),
        ("other kind", "it holds a StableDiffusionXLPipeline: the course opens a StableDiffusionPipeline"),
        ("half there", "it is only half there, unet/diffusion_pytorch_model.safetensors is missing: fetch or save it"),
        ("shard", "it is only half there, unet/diffusion_pytorch_model.safetensors is missing: fetch or save it"),
        ("cut", "it could not be read (OSError"),
        ("pointer", "it could not be read (OSError"),
    ],
)
def test_a_folder_that_is_not_whole_is_passed_over_and_left_alone(monkeypatch, saved, tmp_path, how, words):
    folder = shutil.copytree(saved, tmp_path / "mine")
    spoil(folder, how)
    monkeypatch.setenv("COURSE_SD", str(folder))
    before = state(folder)
    _, said = search()
    assert said[0].startswith(f"The folder in COURSE_SD is passed over: {words}") and said[1:] == [MINIATURE]
    assert state(folder) == before and str(tmp_path) not in said[0]


class Trap:
    """What a pickle can do: it writes a file when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_pickle_is_never_opened(monkeypatch, saved, tmp_path, part):
    folder, sprung = shutil.copytree(saved, tmp_path / "mine"), tmp_path / "sprung"
    (weights,) = (folder / part).glob("*.safetensors")
    weights.unlink()
    bin_name = {"unet": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}[part]
    (folder / part / bin_name).write_bytes(pickle.dumps(Trap(sprung)))
    monkeypatch.setenv("COURSE_SD", str(folder))
    _, said = search()
    assert f"the weights of its {part} are a pickle" in said[0] and "take a copy with .safetensors" in said[0]
    assert said[1:] == [MINIATURE] and not sprung.exists()
    pickle.loads((folder / part / bin_name).read_bytes()).close()
    assert sprung.exists()  # the trap was a real one


def test_shards_that_are_all_there_are_a_whole(monkeypatch, tmp_path):
    folder = tmp_path / "mine"
    pipe = pipeline("v_prediction")
    pipe.save_pretrained(folder, max_shard_size="100KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    monkeypatch.setenv("COURSE_SD", str(folder))
    loaded, said = search()
    assert said[0].startswith("The folder in COURSE_SD, float32 on cpu")
    assert worst(ours(loaded, PROMPTS), ours(pipe, PROMPTS)) == 0


def test_weights_of_half_precision_alone_are_widened_on_a_cpu(monkeypatch, halved):
    monkeypatch.setenv("COURSE_SD", str(halved))
    pipe, said = search()
    assert said[0].startswith("The folder in COURSE_SD, float32 on cpu") and pipe.dtype == torch.float32
    assert worst(ours(pipe, PROMPTS), ours(shared("v_prediction"), PROMPTS)) < 0.05


def test_the_dtype_is_asked_for_as_this_diffusers_wants_it(saved, halved):
    """0.39 ignores `dtype`, later ones warn about `torch_dtype`: half precision must come, and no warning."""
    for folder in (saved, halved):
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            pipe = pretrained._read(folder, torch.device("cpu"), half=True)
        assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float16}


def test_local_folders_need_no_network(monkeypatch, saved):
    tried = []

    def refuse(_, address):
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("COURSE_SD", str(saved))
    pipe, _ = search()
    assert ours(pipe, PROMPTS).shape == (2, 4, 8, 8)
    monkeypatch.delenv("COURSE_SD")
    assert search()[1] == [MINIATURE] and tried == []


def test_without_any_pipeline_one_sentence_says_what_to_do(monkeypatch):
    def nothing(name):
        raise ValueError("none ships here")

    monkeypatch.setattr(pretrained, "shipped", nothing)
    said = []
    with pytest.raises(PretrainedError, match="connect to the network, or set COURSE_SD"):
        load_pipeline((), say=said.append)
    assert said == ["The miniature of the course is passed over: it does not ship with this copy of the course: "
                    "fetch the course anew."]  # fmt: skip


def test_without_diffusers_or_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None if name == "transformers" else name)
    with pytest.raises(PretrainedError, match="transformers is not installed: run `python -m pip install"):
        load_pipeline()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_half_precision_is_fetched_and_drawn_with(hub, halved):
    hub.models = {"good/sd": halved}
    pipe, said = search(choice("good/sd"), device=None)
    assert said[0].startswith("good/sd, float16 on cuda")
    predict, schedule, codec = open_pipeline(pipe, PROMPTS, None, 3.0)
    x0 = sample(ddim_step, predict, schedule, noise().cuda(), times(pipe, 8))
    assert worst(x0.cpu(), ours(shared("v_prediction"), PROMPTS, None, 3.0)) < 0.1
    assert codec.decode(x0).shape == (2, 3, 16, 16)


def test_the_list_names_commits_and_what_they_cost():
    assert [one.id for one in CHOICES] == [
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "CompVis/stable-diffusion-v1-4",
    ]
    for one in CHOICES:
        assert len(one.revision) == 40 and set(one.revision) <= set("0123456789abcdef")
        assert one.licence == "CreativeML OpenRAIL-M" and one.memory > one.gigabytes
