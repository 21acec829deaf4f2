# %% [markdown] tags=["promise"]
# # 00. Start here
#
# <!-- colab -->
#
# **What will I be able to do?** In the next minute, a neural network draws handwritten digits out of pure
# noise in front of you. By the end of this lesson you will have looked behind that, asked for a seven, turned
# a digit into noise with two functions of your own, and walked it back; and you will know how every other
# lesson of this course works.
#
# - **Prerequisites:** some Python, the idea of an array, school mathematics. No PyTorch yet, and no graphics
#   card.
# - **Time:** 20 minutes of yours, 1 minute of computing on a CPU; 20 minutes and as little computing on a
#   GPU.
# - **Download:** nothing. The networks come with the course (5 MB each), and the digits with a package that
#   is installed already.
#
# Each framed box of code below is a *cell*. Click into it and press **Shift + Enter**: it runs, and the next
# one is chosen (on a text like this one, the keys only lead on to what follows). Begin with the one right below.
# The first cells of a lesson take several seconds, while PyTorch is loaded.

# %% tags=["setup"]
# <setup>

# %% [markdown]
# ## 1. Digits out of noise
#
# Run the next two cells. Their code need not make sense yet; it will, line by line, within five lessons.

# %%
import torch

from course_lib import data, schedules, viz
from course_lib.page import predict, show
from course_lib.recipes import draw, load_denoiser
from course_lib.samplers import ddim_step, dpm_step, sample, sample_steps

network = load_denoiser(data.shipped("mnist-ddpm"))  # a network that was trained for ten minutes
noise = torch.randn(30, 1, 28, 28, generator=torch.Generator().manual_seed(0))  # 30 pictures of pure noise
thirty = list(sample_steps(dpm_step, network, network.schedule, noise, network.schedule.steps(20)))
digits = thirty[-1].x_next

# %% tags=["picture"]
figure = viz.picture_rows({f"noise {k} to {k + 9}": digits[k : k + 10] for k in (0, 10, 20)}, size=0.7)
show(figure, "Thirty handwritten digits, white on black, drawn by the network from thirty pictures of noise. Most can "
             "be read at once; a few are odd.")

# %% [markdown]
# **What you saw.** A *diffusion model* drew these. Its network has 1.26 million weights; for ten minutes, on
# two processor cores, it looked at the 60,000 handwritten digits of MNIST, mixed with more or less noise, and
# learned to answer one question: *what picture do you think is in this noise?* In lesson 04 you train one
# yourself.
#
# Drawing is asking that question again and again. It begins at step $t = 1000$ with nothing but noise, and
# ends at $t = 0$ with a picture. Here are all 20 steps of it. Press **play**; then move the slider, or click on
# it and use the arrow keys. **Look for** a digit that changes its mind: a guess that looks like one digit early
# on, and like another one later. (Type its number into *picture*, and the pin beside it shows it large. If the
# sentence and the pictures are out of sight, scroll up a little.)

# %%
from course_lib.widgets import StepPlayer

StepPlayer(thirty, rates=network.schedule, alt="Thirty pictures on their way from noise to digits, in 20 steps.")

# %% [markdown]
# On the left is $x_t$, what the model has on its desk; in the middle its guess of the finished picture, called
# $x_0$; on the right the noise that it takes for the rest. In the first step all guesses are the same pale blur.
# Then the guess leads, and the picture follows: at $t = 600$, where most digits can be read in the guess,
# $x_t$ itself is hardly more than noise with a shadow in it.
#
# ## 2. When does it know?
#
# Which digit will it be? At $t = 1000$ all ten are equally likely, and the best guess can only be a blur. To see
# when a model makes up its mind we want one that hides nothing. It draws smaller digits, 8 x 8 pixels, and
# it has no network in it, but it walks from noise to picture in the same way.
#
# **Before you run anything.** At which $t$ will that model be 90 % sure which digit it is going to be? The next
# cell shows buttons: press one, then go on. This course asks often, because a surprise is remembered.

# %% tags=["prediction"]
sure = predict("0.a", "the step t at which the model is 90 % sure of the digit", options=[800, 500, 200])

# %% [markdown]
# The next cell takes that predictor, gives it 100 pictures of pure noise, and lets it walk from 1000 down to 0
# in 50 steps.

# %%
from course_lib.models.exact import ExactPredictor, GaussianMixture

pictures, labels = data.digits()  # (1797, 1, 8, 8) handwritten digits, and which digit each one is
schedule = schedules.cosine(T=1000)
predictor = ExactPredictor(GaussianMixture(pictures, std=0.0, labels=labels), schedule)

noise = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
steps = list(sample_steps(ddim_step, predictor, schedule, noise, schedule.steps(50)))
drawn = steps[-1].x_next
print(f"{len(drawn)} pictures drawn in {len(steps)} steps")

# %% tags=["picture"]
shown, rows = steps[::5], {}
for name, k in {"first": 3, "second": 4}.items():
    rows[f"{name}: x_t"] = torch.stack([step.x_t[k] for step in shown] + [drawn[k]])
    rows[f"{name}: guess"] = torch.stack([step.prediction.x0[k] for step in shown] + [drawn[k]])
figure = viz.picture_rows(rows, columns=[f"t = {step.t}" for step in shown] + ["t = 0"])
show(figure, "Two drawings from noise at t = 1000 to a clean digit at t = 0. Above, the noise thins out "
             "slowly; below, the guess begins as the same grey blur for both and sharpens long before.")

# %% [markdown]
# **What you saw.** In each pair $x_t$ is above, its guess below. At $t = 1000$ both guesses are the same blur:
# the average of all digits, the best answer to a question that says nothing yet. (Pictures of 8 x 8 pixels are
# easier to read from some way off: lean back.)
#
# When does it know which digit it will be? Two pictures prove little, and a blur may look like an 8 to us and
# not to the model. This predictor can be asked how sure it is: behind its guess stand 1,797 chances, one for
# each digit that it was given. The farther $x_t$ lies from a digit, the smaller that digit's chance (`a` and
# `s` are how much picture and how much noise there is at step $t$; lesson 02 derives the formula). The
# chances of all fives together say how sure it is of a five.

# %%
def chances(x_t, t):
    """How likely each of the 1,797 digits is to be the one behind x_t: a row for each x_t, with the sum 1."""
    a, s = schedule.signal_rate[t], schedule.noise_rate[t]
    distance = torch.cdist(x_t.flatten(1), a * pictures.flatten(1))
    return torch.softmax(-(distance**2) / (2 * s**2), dim=1)


of_picture = torch.stack([chances(step.x_t, step.t) for step in steps])  # (50, 100, 1797)
of_digit = torch.stack([of_picture[:, :, labels == digit].sum(dim=2) for digit in range(10)], dim=2)
times = torch.tensor([step.t for step in steps])

# %% tags=["picture"]
largest = {"of one digit, such as a 5": of_digit.amax(2), "of one of the 1,797 pictures": of_picture.amax(2)}
typical = {name: 100 * chance.median(dim=1).values for name, chance in largest.items()}
since = {name: int(times[percent > 90].max()) for name, percent in typical.items()}
figure = viz.curves({name: (times, percent) for name, percent in typical.items()},
                    xlabel="step t, from noise (1000) to picture (0)", ylabel="how sure it is, in %")
figure.axes[0].axhline(90, color="0.4", lw=1)
figure.axes[0].invert_xaxis()
show(figure, "How sure the model is, in percent, against t from 1000 to 0. Both curves climb to 100, and pass "
             f"90 at t = {' and '.join(map(str, since.values()))}: the digit's, then the picture's.")

# %%
for name, t in since.items():
    print(f"half of the 100 drawings are 90 % sure {name} at t = {t}")
sure.compare(since["of one digit, such as a 5"])

# %% [markdown]
# **What you saw.** Half way down, a typical drawing is 90 % sure which digit it will be (the thin line), and
# there is still as much noise as picture in $x_t$. Which of the 1,797 pictures it will be is open for longer:
# first the digit, then the strokes. No dice are thrown on the way, either: the same noise always ends at the
# same picture, and the model finds out where it is going. You will meet this order again before the lesson is
# over.
#
# ## 3. It knows them by heart
#
# These small digits were good, and nothing was trained. You should be suspicious. Here is each of ten drawings
# beside the nearest of the 1,797 digits that the predictor was given.

# %% tags=["picture"]
def nearest(x):
    """Root mean square distance over the 64 pixels to the nearest training digit, and its row."""
    return (torch.cdist(x.flatten(1), pictures.flatten(1)) / 8).min(dim=1)


distance, row = nearest(drawn)
figure = viz.picture_rows({"drawn": drawn[:10], "nearest digit": pictures[row[:10]]},
                          columns=[f"off by {d:.3f}" for d in distance[:10].tolist()])
print(f"largest distance of all 100: {distance.max():.4f}, where black to white is 2")
show(figure, "Ten drawn digits above, and below each the nearest of the digits that the predictor was given. "
             "The pairs are the same, pixel for pixel.")

# %% [markdown]
# **What you saw.** Every drawing *is* one of the given digits. This predictor has no network in it. It holds
# all of them, works out by Bayes' rule how likely each one is to be behind the noise, and answers with their
# average, weighted by those chances (EDM, eq. 57). No answer has a smaller squared error on these data.
#
# That is worth a pause. A network whose training loss could not be any lower would do the same: repeat its
# training data. What makes diffusion models useful is that a network does *not* get there, and misses in a
# helpful way: the thirty digits of section 1 came out of one. Lesson 14 shows when large models repeat after
# all.
#
# **A popular way out: blur the memory.** Let us give every digit some room, a cloud of deviation `std` around
# it, so that the predictor no longer insists on the exact pixels. What will it draw with a wide `std`?

# %% tags=["prediction"]
wide = predict("0.b", "what a wide std draws",
               options=["blurred digits", "grainy digits", "digits of a new hand"])

# %% tags=["picture"]
rows = {}
for std in (0.0, 0.1, 0.3, 0.6):
    softer = ExactPredictor(GaussianMixture(pictures, std=std, labels=labels), schedule)
    x = sample(ddim_step, softer, schedule, noise, schedule.steps(50))
    rows[f"std = {std}"] = x[:10]
    print(f"std = {std}: a drawing is {nearest(x).values.median():.2f} away from its nearest digit")
figure = viz.picture_rows(rows)
show(figure, "Four rows of ten drawings, with std 0, 0.1, 0.3 and 0.6. They are the same ten digits in "
             "every row, with more and more grain over them; none is blurred and none is new.")

# %%
pairs = torch.cdist(pictures.flatten(1), pictures.flatten(1)) / 8
apart = pairs.kthvalue(2, dim=1).values  # the second smallest: the smallest is a digit's distance to itself
print(f"for comparison: from a real digit to the nearest other one it is {apart.median():.2f}")
wide.compare("grainy digits")

# %% [markdown]
# **What you saw.** The same digits under more and more grain: the predictor now believes that grain belongs
# to the data. With `std = 0.3` a typical drawing is farther from its nearest given digit than a typical real digit
# is from its nearest neighbour, and still it is nothing new.
# So distance alone proves no invention. Blur is what you saw in the
# *guesses*, which average over the digits that are still possible; it does not survive the walk.
#
# ## 4. Ask for a seven
#
# A predictor may be told what to draw. The course calls that `cond`, the condition; here it is a label for
# each picture. Run the cell, then put another digit in place of 7 and run it again.

# %% tags=["picture"]
wanted = 7
cond = torch.full((10,), wanted)
asked = sample(ddim_step, predictor, schedule, noise[:10], schedule.steps(50), cond)
kinds = labels[nearest(asked).indices]
figure = viz.picture_rows({"asked for": asked}, columns=[f"a {kind}" for kind in kinds.tolist()])
show(figure, f"Ten drawings from ten different noises, all asked to be a {wanted}; the nearest training "
             f"digits are labelled {sorted(set(kinds.tolist()))}.")

# %% [markdown]
# Networks can be told, too. This one saw the labels of MNIST while it learned. The numbers above its drawings
# come from a second network, one that reads digits (it misreads about one in 120 of MNIST's test digits).

# %% tags=["picture"]
from course_lib.evaluate import load_digit_features

told = draw(load_denoiser(data.shipped("mnist-ddpm-labels")), 10, label=wanted)
_, read = load_digit_features()(told)  # its features, and its ten chances for each drawing
figure = viz.picture_rows({"asked for": told}, columns=[f"a {kind}" for kind in read.argmax(1).tolist()])
show(figure, f"Ten larger digits, drawn by a network that was asked for a {wanted}, and above each what a second "
             "network reads in it.")

# %% [markdown]
# Nearly all are what was asked for, and some are odd: a network misses, and does not say so. (Lesson 08 shows how
# to make it listen harder.)
#
# You will often read that a diffusion model *uncovers the picture that was hidden in the noise*. That can be
# tested: take one noise, and ask ten different things of it.

# %% tags=["picture"]
one_noise = noise[:1].expand(10, 1, 8, 8)
ten = list(sample_steps(ddim_step, predictor, schedule, one_noise, schedule.steps(50), torch.arange(10)))
rows = {f"t = {step.t}": step.x_t for step in (ten[0], ten[25], ten[35])}
rows["t = 0"] = ten[-1].x_next
figure = viz.picture_rows(rows, columns=[f"cond = {digit}" for digit in range(10)])
show(figure, "Ten columns that begin with the same noise at t = 1000 and end at t = 0 as the ten digits "
             "0 to 9, one for each condition.")

# %% [markdown]
# **What you saw.** One noise became ten digits. So no picture was hidden in it: the noise is the starting
# point, and predictor, condition and noise together choose where the walk ends. The exact
# predictor shows it best, because it never misses.
#
# ## 5. How an exercise works
#
# In each lesson you write the functions that matter. An exercise is a cell with a gap and below it a cell
# that tries what you wrote. Leave the gap and the lesson still runs, once you have run the cell below it: the
# course's own function stands in, and says so.
#
# The first one is small on purpose. The digits were scanned with 17 grey levels, from 0 (paper, shown black)
# to 16 (ink, shown white). Noise has a mean of 0, so we want pictures around 0 as well: this course keeps all
# data between -1 and 1.

# %%
from sklearn.datasets import load_digits

from course_lib.checks import check

grey = torch.as_tensor(load_digits().images, dtype=torch.float32)[:, None]  # (1797, 1, 8, 8)
print(f"shape {tuple(grey.shape)}, grey levels {grey.min():.0f} to {grey.max():.0f}")
print(grey[0, 0, :3])  # the upper three lines of the first digit

# %% [markdown]
# ### Exercise 0.1 - grey levels to [-1, 1] (3 minutes, difficulty 1 of 5)
#
# Write `scale_pixels`. It gets a tensor `grey` of any shape with numbers from 0 to 16, fractions included, and
# returns a new tensor of the same shape and number type (float32): 0 becomes -1, 16 becomes 1, and what lies
# between is spread evenly. A tensor takes `+ - * /` with a number like a numpy array. Delete the line that
# begins with `raise`, and write your own.

# %% tags=["exercise"]
def scale_pixels(grey):
    """Map grey levels 0..16 (any shape) evenly to [-1, 1]."""
    # <solution>
    return grey / 8 - 1
    # </solution>

# %% tags=["check"]
scale_pixels = check("0.1", scale_pixels)

# %% [markdown]
# If it says *not yet*, there is usually a hint to unfold, and a second one inside it. Change your cell, run it, run the
# check again: as often as you like, nobody counts. What you wrote is used from here on.

# %%
x0 = scale_pixels(grey)
print(f"your pictures: from {x0.min():.0f} to {x0.max():.0f}, mean {x0.mean():.2f}")

# %% [markdown]
# ### Exercise 0.2 - mix a digit with noise (5 minutes, difficulty 1 of 5)
#
# Now the other direction: picture to noise. At each step $t$ a schedule holds two numbers from 0 to 1. The
# first says how much of the picture is left, the second how much noise there is (DDPM, eq. 4; the paper
# writes them as roots, here they are plain numbers):
#
# $$x_t = \text{signal\_rate}\cdot x_0 + \text{noise\_rate}\cdot \epsilon$$
#
# Write `add_noise`. It gets pictures `x0` and noise `eps` (the letter $\epsilon$), both of one shape `(B,
# *dims)`: `B` pictures, and `*dims` stands for their other sizes, here 1 x 8 x 8. It also gets the two
# numbers, and returns a new $x_t$ of that shape. The noise has been drawn for you: use `eps`, and leave `x0`
# as it is.

# %% tags=["exercise"]
def add_noise(x0, eps, signal_rate, noise_rate):
    """Mix clean data x0 with noise eps (DDPM, eq. 4)."""
    # <solution>
    return signal_rate * x0 + noise_rate * eps
    # </solution>

# %% tags=["check"]
add_noise = check("0.2", add_noise)

# %% [markdown]
# **Break it on purpose.** The checks know the mistakes that people make. Here is one: the rates are swapped.
# Run the cell and unfold the hints. Then try others: leave out `signal_rate`; draw fresh noise with
# `torch.randn_like(x0)`; write `(1 - noise_rate)` for `signal_rate`; forget the `return`; put a bracket in
# the wrong place.

# %%
def my_mistake(x0, eps, signal_rate, noise_rate):
    return noise_rate * x0 + signal_rate * eps


_ = check("0.2", my_mistake)

# %% [markdown]
# What you put in there does not touch `add_noise`. Now let us use yours: one digit, one noise, all the way
# from clean to noise, and from each of these stations back again with the predictor.
#
# **Before you run it.** Half way, at $t = 500$, how many of 100 digits will come back as the very picture
# they were?

# %% tags=["prediction"]
back = predict("0.c", "how many of 100 digits come back from t = 500 as themselves", options=[95, 65, 35, 5])

# %%
def noised(x0, t, seed=0):
    """Noise clean pictures up to step t with your function."""
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    return add_noise(x0, eps, schedule.signal_rate[t], schedule.noise_rate[t])


def walk_back(x_t, t):
    """Walk from step t down to 0, in strides of 20."""
    return sample(ddim_step, predictor, schedule, x_t, list(range(t, -1, -20)))


# %% tags=["picture"]
stations, digit = range(100, 1001, 100), x0[5:6]
rows = {"noised to t": torch.cat([noised(digit, t) for t in stations]),
        "walked back": torch.cat([walk_back(noised(digit, t), t) for t in stations])}
figure = viz.picture_rows(rows, columns=[f"t = {t}" for t in stations])
show(figure, "A five, noised more and more from t = 100 to 1000, and below each what the walk back makes "
             "of it: the same five, then another five, then from pure noise something else.")

# %%
from course_lib.profile import budget

n = budget(smoke=100, cpu=200, gpu=200)
for t in (200, 500, 800, 1000):
    row = nearest(walk_back(noised(x0[:n], t), t)).indices
    itself = (row == torch.arange(n)).double().mean()
    same_kind = (labels[row] == labels[:n]).double().mean()
    print(f"t = {t:4d}: {itself:4.0%} come back as themselves, {same_kind:4.0%} as the same digit")
    if t == 500:
        came_back = round(100 * float(itself))
back.compare(came_back)

# %% [markdown]
# **What you saw.** After a little noise everything returns. Half way, most come back as the same digit, but
# few as the same picture: the strokes are lost first, the digit later, which is the order of section 2 in
# reverse. From $t = 1000$ only chance is left, one in ten. It is a tool, too: noise a picture part of the
# way, walk back, and you have a variation of it. Lesson 08 calls that image-to-image (SDEdit).
#
# ## 6. When something takes long, or fails
#
# Some cells work for a while. They show a bar with the time left, and you may stop them: press the square
# **stop** button above, or the key `Esc` and then `I` twice. A red message `KeyboardInterrupt` appears;
# that is all right, and nothing is lost that the loop had reached: go on with the next cell. Try it on this
# cell, or let it finish.

# %%
from tqdm.auto import tqdm

crowd = torch.randn(1000, 1, 8, 8, generator=torch.Generator().manual_seed(1))
n_steps = budget(smoke=20, cpu=150, gpu=150)
walk = sample_steps(ddim_step, predictor, schedule, crowd, schedule.steps(n_steps))
for step in tqdm(walk, total=n_steps, desc="steps"):
    latest = step  # what is kept, whenever you stop

# %%
different = len(nearest(latest.prediction.x0).indices.unique())
lottery = 1797 * (1 - (1 - 1 / 1797) ** 1000)
print(f"reached t = {latest.t_next}: the 1,000 guesses name {different} different digits")
print(f"1,000 fair draws out of 1,797 digits would hit about {lottery:.0f} different ones")

# %% [markdown]
# **What you saw.** If you stopped it in the first half, the guesses were still blurs and named fewer digits. If you let
# it finish, the 1,000 drawings hit about as many different digits as a fair lottery: this test finds no favourite
# and no gap. Lesson 07 asks the same of GANs.
#
# How much a cell computes comes from one place, `budget(smoke=..., cpu=..., gpu=...)`. The *profile* chooses:
# `gpu` where there is a CUDA card, otherwise `cpu`, and `smoke` for automatic tests. The first line of each
# lesson names the profile in force; set `COURSE_PROFILE` before you start Jupyter to choose another. The same
# line says where data live: in the folder `data`, or wherever `COURSE_DATA` points.
#
# | what happens | what helps |
# |---|---|
# | a cell shows `[*]` and does not end | the stop button; or menu **Kernel**, **Restart Kernel** |
# | `NameError: name 'x0' is not defined` | a cell above has not run: **Run**, **Run All Above Selected Cell** |
# | `NotImplementedError: Exercise 0.1 is yours to write` | run the check cell below the exercise, then go on |
# | an exercise is stuck after both hints | read on; `solutions` has this lesson with every answer |
# | a package, the disk or the network seems broken | `uv run course doctor` in a terminal says what to do |
# | you changed too much | get this one file again, with git by `git checkout lessons/00_start_here.ipynb` |
#
# ## 7. The way from here
#
# Seven lessons are ready, this one among them. The others are planned, and named so that you see where it
# leads.
#
# | lesson | the question it answers |
# |---|---|
# | **00** | What will I be able to do? *(you are here)* |
# | [**01** Noise schedules](01_noise_schedules.ipynb) | How is a picture destroyed, step by step? |
# | [**02** The denoising objective](02_denoising_objective.ipynb) | What is the network asked to learn? |
# | [**03** U-Net](03_unet.ipynb) | What network can do that on images? |
# | [**04** Train a DDPM](04_train_ddpm.ipynb) | Can I train one myself? |
# | [**05** Samplers](05_samplers.ipynb) | How do I draw with fewer steps? |
# | [**06** GANs](06_gan.ipynb) | What is the rival, and how does it break? |
# | 07 On trial *(planned)* | Which of the popular claims are true? |
# | 08 Guidance *(planned)* | How do I ask for a seven? |
# | 09 CIFAR-10 *(planned)* | What changes in colour? |
# | 10 Fewer steps *(planned)* | Can it be done in one to four steps? |
# | 11 Bigger pictures *(planned)* | How do pictures get large? |
# | 12 Text to image *(planned)* | How does text get in? |
# | 13 Other signals *(planned)* | Only pictures? |
# | 14 Responsible use *(planned)* | What may go wrong outside? |
# | 15 Stable Diffusion *(planned)* | And the real thing? |
#
# A lesson takes one to two hours. You need Python with loops and functions, arrays, and the mathematics of
# school; what is used of PyTorch and of probability is explained where it first appears. Two processor cores
# are enough for the lessons that are here. If you teach: the same lessons with all answers and outputs lie in
# the folder `solutions`.

# %% [markdown]
# ## Summary
#
# - A diffusion model walks from noise at $t = T$ to a picture at $t = 0$, asking a **predictor** at each step
#   what picture it sees in $x_t$. That guess begins as an average of everything; which digit it will be is
#   settled about half way, the strokes later.
# - The networks of this lesson were trained; the predictor of sections 2 to 6 is exact and knows its 1,797
#   digits by heart. It is the course's answer key; it invents nothing, and a wide `std` gives it grain, not
#   imagination.
# - A condition such as a label changes where the walk ends. The picture is not hidden in the noise.
# - $x_t = \text{signal\_rate}\cdot x_0 + \text{noise\_rate}\cdot\epsilon$ is all there is to adding noise.
# - **To remember:** predict, run, compare. A wrong answer costs nothing here.
#
# ## Quiz
#
# ### Question 1
#
# At $t = 1000$ the guess of $x_0$ was the same grey blur for every drawing. Why?
#
# <details><summary>A. The predictor was not trained for long enough.</summary>No: it was not trained at all,
# and no training could improve on it. With no information the average is the best guess.</details>
# <details><summary>B. Nothing of a picture is in x_t yet, and the average of all digits has the smallest
# squared error.</summary>Right. As x_t tells more, fewer digits remain possible, and their average
# sharpens.</details>
# <details><summary>C. The blur is noise that has not been removed yet.</summary>No: look at the row above it,
# that is the noise. The blur is smooth, and it is the same for both drawings.</details>
#
# ### Question 2
#
# You made a guess about a wide `std`. What did it draw, and why?
#
# <details><summary>A. Blurred digits: std mixes neighbouring digits.</summary>No, although it sounds likely.
# Averages appear in the guesses on the way; at the end the walk comes down in the cloud around one
# digit.</details>
# <details><summary>B. Digits of a new hand: there is now room between the given ones.</summary>No: the room
# lies in all 64 directions alike, and nearly all of them lead to grain, hardly any to other
# handwriting.</details>
# <details><summary>C. Grainy digits: a given digit plus noise of deviation std.</summary>Right. That is what
# the predictor was told the data look like.</details>
#
# ### Question 3
#
# A friend's network reaches the lowest training loss that is possible. What will it draw?
#
# <details><summary>A. The best new pictures that there can be.</summary>No: the smallest loss on given
# pictures belongs to the exact predictor of those pictures, and that one repeats them.</details>
# <details><summary>B. Its training pictures.</summary>Right, as in section 3. Useful networks stop short of
# it; how to notice when they do not is a question of lesson 14.</details>
# <details><summary>C. Only averages.</summary>No: averages are its guesses at large t. The walk that follows
# the guesses down to t = 0 ends sharp.</details>
#
# ## References
#
# - Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models,
#   [arXiv:2006.11239](https://arxiv.org/abs/2006.11239), eq. 4 (adding noise).
# - Song, Meng, Ermon: Denoising Diffusion Implicit Models,
#   [arXiv:2010.02502](https://arxiv.org/abs/2010.02502), eq. 12 (the step that `ddim_step` takes).
# - Karras, Aittala, Aila, Laine: Elucidating the Design Space of Diffusion-Based Generative Models,
#   [arXiv:2206.00364](https://arxiv.org/abs/2206.00364), appendix B.3, eq. 57 (the exact predictor of a
#   finite data set).
# - Kamb, Ganguli: An analytic theory of creativity in convolutional diffusion models,
#   [arXiv:2412.20292](https://arxiv.org/abs/2412.20292) (how networks miss the exact predictor, and so draw
#   something new).
# - Meng et al.: SDEdit, [arXiv:2108.01073](https://arxiv.org/abs/2108.01073) (noise part of the way, walk
#   back).
# - Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI repository, 1998,
#   [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49) (the digits).
#
# ## Next
#
# [Lesson 01](01_noise_schedules.ipynb) asks how a picture is destroyed, step by step, and where the two rates
# come from.
