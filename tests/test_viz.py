"""Pictures: what stands in them is what was handed in, named, and told apart by more than colour."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from course_lib import viz


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for text in figure.findobj(plt.Text)]


def test_curves_draw_each_line_with_a_dash_and_marker_of_its_own():
    x = np.arange(5)
    figure = viz.curves(
        {f"line {i}": (x, i * x) for i in range(7)}, "t", "rate", title="seven", log="", mark=2.5, markers=True
    )
    axes = figure.axes[0]
    lines = [line for line in axes.lines if line.get_label().startswith("line")]
    for i, line in enumerate(lines):
        assert line.get_ydata().tolist() == (i * x).tolist()
    looks = [[line.get_color() for line in lines], [line.get_marker() for line in lines], list(viz.DASHES)]
    assert all(len(set(look)) == 7 for look in looks)
    assert lines[0].get_linestyle() == "-" and lines[1].get_linestyle() == "--"
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("t", "rate", "seven")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"line {i}" for i in range(7)]
    assert axes.lines[-1].get_xdata() == [2.5, 2.5]


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_curves_take_log_axes(log):
    axes = viz.curves({"one": ([1, 2], [1, 4])}, "t", "y", log=log).axes[0]
    assert (axes.get_xscale() == "log", axes.get_yscale() == "log") == ("x" in log, "y" in log)
    assert axes.get_legend() is None  # one line needs no legend


def test_histogram_is_a_density():
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    axes = viz.histogram({"a": values, "b": values + 1}, "value", bins=40, title="two").axes[0]
    for patch in axes.patches:
        heights, edges, _ = patch.get_data()
        assert len(heights) == 40 and abs(float((heights * np.diff(edges)).sum()) - 1) < 1e-9
    assert axes.get_xlabel() == "value" and axes.get_title() == "two"
    cut = viz.histogram({"a": values}, "value", spread=(-1, 1)).axes[0].patches[0].get_data()
    assert (cut.edges[0], cut.edges[-1]) == (-1, 1)
    inside = values[values.abs() <= 1]
    assert abs(cut.values[0] - float(((inside + 1) < 0.025).sum()) / len(inside) / 0.025) < 1e-6


def test_histogram_of_constant_data_is_one_bar():
    heights = viz.histogram({"a": np.ones(10)}, "value", bins=4).axes[0].patches[0].get_data().values
    assert (heights > 0).sum() == 1


def test_picture_rows_show_the_pictures_under_their_headings():
    grey, colour = np.linspace(-1, 1, 3 * 16).reshape(3, 4, 4), torch.zeros(2, 3, 4, 4)
    figure = viz.picture_rows({"grey": grey, "colour": colour}, ["t = 0", "t = 1", "t = 2"], title="all")
    assert len(figure.axes) == 6 and {"grey", "colour", "t = 0", "t = 1", "t = 2", "all"} <= set(texts(figure))
    for i in range(3):
        image = figure.axes[i].images[0]
        assert np.array_equal(image.get_array(), grey[i]) and image.get_clim() == (-1, 1)
    assert np.array_equal(figure.axes[3].images[0].get_array(), np.full((4, 4, 3), 0.5))
    assert len(figure.axes[5].images) == 0  # the shorter row leaves its last place empty
    assert np.array_equal(viz.picture_rows({"one": grey[:, None]}).axes[1].images[0].get_array(), grey[1])


def test_colours_outside_the_range_are_clipped():
    picture = viz.picture_rows({"loud": 3 * torch.ones(1, 3, 2, 2)}).axes[0].images[0].get_array()
    assert float(picture.max()) == float(picture.min()) == 1.0


def test_clouds_side_by_side_and_over_one_another():
    clouds = {"data": torch.rand(5, 2), "drawn": np.random.default_rng(0).random((6, 2))}
    apart = viz.clouds(clouds, limit=3, title="both")
    assert [axes.get_title() for axes in apart.axes] == ["data", "drawn"] and "both" in texts(apart)
    assert [len(axes.collections[0].get_offsets()) for axes in apart.axes] == [5, 6]
    assert np.allclose(apart.axes[0].collections[0].get_offsets(), clouds["data"])
    assert apart.axes[0].get_xlim() == apart.axes[0].get_ylim() == (-3, 3)
    over = viz.clouds(clouds, overlay=True)
    first, second = over.axes[0].collections
    assert len(over.axes) == 1 and len(first.get_paths()[0].vertices) != len(second.get_paths()[0].vertices)
    assert [text.get_text() for text in over.axes[0].get_legend().get_texts()] == ["data", "drawn"]


def test_field_draws_direction_by_arrow_and_length_by_colour():
    at, arrows = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])
    figure = viz.field(at, arrows, cloud=np.zeros((4, 2)), title="pull")
    quiver = next(c for c in figure.axes[0].collections if hasattr(c, "U"))
    assert np.allclose(quiver.U, [0.6, 0.0]) and np.allclose(quiver.V, [0.8, 0.0])
    assert np.allclose(quiver.get_array(), [5.0, 0.0]) and np.allclose(quiver.get_offsets(), at)
    assert figure.axes[0].get_title() == "pull" and len(figure.axes[0].collections) == 2
    assert len(viz.field(at, arrows).axes[0].collections) == 1


def test_trajectories_run_from_circles_to_crosses():
    paths = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
    figure = viz.trajectories({"eta 0": paths, "eta 1": paths + 1}, cloud=torch.zeros(4, 2), limit=4)
    axes = figure.axes[0]
    assert np.allclose([line.get_xydata() for line in axes.lines], paths.transpose(0, 1))
    cloud, noise, sample = axes.collections
    assert np.allclose(noise.get_offsets(), paths[0]) and np.allclose(sample.get_offsets(), paths[-1])
    assert len(cloud.get_offsets()) == 4
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["noise", "sample"]
    assert [axes.get_title() for axes in figure.axes] == ["eta 0", "eta 1"]
    assert len(viz.trajectories({"one": paths}).axes[0].collections) == 2


def test_orbits_run_from_circles_to_crosses_over_arrows_of_one_length():
    path, at = np.array([[1.0, 0.0], [0.0, -1.5], [-2.0, 0.0]]), np.array([[2.5, 0.0], [0.0, 2.0]])
    figure = viz.orbits({"out": path, "in": path[::-1]}, at, np.array([[0.0, 7.0], [-0.1, 0.0]]), "x", "y")
    assert [axes.get_title() for axes in figure.axes] == ["out", "in"]
    arrows, start, end = figure.axes[0].collections
    assert np.allclose(np.hypot(arrows.U, arrows.V), 1) and np.allclose(arrows.get_offsets(), at)
    assert np.allclose(start.get_offsets(), path[:1]) and np.allclose(end.get_offsets(), path[-1:])
    assert np.allclose(figure.axes[0].lines[0].get_xydata(), path)
    assert figure.axes[0].get_xlim() == (-2.5, 2.5) and figure.axes[1].get_ylabel() == "y"


def test_tensors_with_gradients_and_of_half_precision_are_read():
    y = torch.tensor([1.0, 2.0], requires_grad=True)
    line = viz.curves({"a": (torch.tensor([0, 1]), y.bfloat16())}, "t", "y").axes[0].lines[0]
    assert line.get_ydata().tolist() == [1.0, 2.0]


def test_two_clocks_show_one_measurement_twice():
    left, right = {"a": ([0, 1], [3, 4])}, {"a": ([5, 9], [3, 4])}
    one, other = viz.two_clocks(left, right, ("t", "log-SNR"), "share").axes
    assert one.lines[0].get_xydata().tolist() == [[0, 3], [1, 4]] and one.get_ylabel() == "share"
    assert other.lines[0].get_xydata().tolist() == [[5, 3], [9, 4]] and other.get_xlabel() == "log-SNR"


def test_rulers_stand_below_one_another_over_a_band():
    axes = viz.rulers({"linear": [1.0, 2.0], "cosine": [0.5]}, "log-SNR", band=(0, 1), band_name="useful").axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1.0, 0.0], [2.0, 0.0]], [[0.5, 1.0]]]
    assert axes.get_ylim() == (1.5, -0.5) and axes.get_xlabel() == "log-SNR"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["useful"]
    assert axes.patches[0].get_extents().width > 0


def test_marks_beyond_the_ruler_become_arrows_at_its_ends():
    axes = viz.rulers({"flow": [-np.inf, -14.0, 0.0, np.inf], "short": [1.0]}, "log-SNR", span=(-12, 12)).axes[0]
    marks = [(line.get_xydata().tolist(), line.get_marker()) for line in axes.lines]
    assert [xy for xy, _ in marks] == [[[0.0, 0.0]], [[-12.0, 0.0]], [[12.0, 0.0]], [[1.0, 1.0]]]
    assert ["left" in marks[1][1], "right" in marks[2][1]] == [True, True]
    with pytest.raises(ValueError, match="swap them"):
        viz.rulers({"flow": [0.0]}, "log-SNR", span=(12, -12))


def test_picture_and_curves_mark_the_row_t():
    tables = {"signal_rate": torch.tensor([1.0, 0.5, 0.0]), "noise_rate": [0.0, 0.8, 1.0]}
    picture, rates = viz.picture_and_curves(torch.full((1, 4, 4), 0.25), tables, 1, title="t = 1").axes
    assert float(picture.images[0].get_array().max()) == 0.25 and picture.get_title() == "t = 1"
    dots = [line.get_xydata().tolist() for line in rates.lines if len(line.get_xydata()) == 1]
    assert dots == [[[1.0, 0.5]], [[1.0, 0.8]]]
    assert rates.lines[0].get_ydata().tolist() == [1.0, 0.5, 0.0]


def test_fields_share_their_points_and_have_a_bar_each():
    at, arrows = np.array([[0.0, 1.0]]), {"t = 50": np.array([[3.0, 4.0]]), "t = 900": np.array([[0.0, 2.0]])}
    figure = viz.fields(at, arrows, cloud=np.zeros((3, 2)))
    panels = [axes for axes in figure.axes if axes.get_title()]
    quivers = [next(c for c in axes.collections if hasattr(c, "U")) for axes in panels]
    assert [axes.get_title() for axes in panels] == ["t = 50", "t = 900"] and len(figure.axes) == 4
    assert [float(quiver.get_array()[0]) for quiver in quivers] == [5.0, 2.0]


def test_shares_stand_side_by_side_over_what_chance_allows():
    axes = viz.shares({"data": [0.2, 0.8], "drawn": [0.4, 0.6]}, 0.5, 0.1, "cluster").axes[0]
    band, *bars = axes.patches
    assert [round(bar.get_height(), 6) for bar in bars] == [0.2, 0.8, 0.4, 0.6]
    assert bars[0].get_x() < bars[2].get_x() < bars[1].get_x() and bars[0].get_hatch() != bars[2].get_hatch()
    assert np.allclose([band.get_y(), band.get_y() + band.get_height()], [0.4, 0.6])


def test_heat_maps_share_one_scale_and_leave_zero_white():
    one, two = np.zeros((3, 4)), np.full((3, 4), 0.5)
    one[1, 2] = 1e-3
    figure = viz.heat_maps({"one": one, "two": two}, "column", "row", "weight", log=True)
    images = [axes.images[0] for axes in figure.axes[:2]]
    assert images[0].norm is images[1].norm and images[0].norm.vmax == 0.5
    assert images[0].get_array().mask.sum() == 11 and not np.ma.getmaskarray(images[1].get_array()).any()
    assert {"one", "two", "column", "row", "weight"} <= set(texts(figure))
    assert images[0].get_array().shape == (3, 4)


@pytest.mark.parametrize("table", [np.zeros((2, 2)), -np.ones((2, 2)), np.ones(3)], ids=["all 0", "below 0", "a row"])
def test_heat_maps_refuse_what_has_no_colour(table):
    with pytest.raises(ValueError, match="expected maps"):
        viz.heat_maps({"one": table}, "column", "row", "weight")


def test_parts_are_bars_in_the_order_they_came():
    figure = viz.parts({"weights": {"down": 1, "up": 3}, "work": {"down": 5, "up": 2}}, "share")
    widths = [[bar.get_width() for bar in axes.patches] for axes in figure.axes]
    assert widths == [[1, 3], [5, 2]] and figure.axes[0].yaxis_inverted()
    assert [axes.get_title() for axes in figure.axes] == ["weights", "work"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["down", "up"]
    with pytest.raises(ValueError, match="the same parts"):
        viz.parts({"weights": {"down": 1}, "work": {"up": 1}}, "share")
