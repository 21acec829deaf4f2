"""What a reader does with a page: open a notebook, drag a slider; and what there is to see of a player."""

import uuid


def open_notebook(page, base, name, app="lab"):
    """Open a notebook in JupyterLab, or in Notebook 7 (app="notebooks"), and wait for its kernel.

    The workspace is a new one: otherwise JupyterLab would open what another test had open on the same server.
    """
    page.set_default_timeout(240_000)
    place = f"lab/workspaces/{uuid.uuid4().hex}/tree" if app == "lab" else app
    page.goto(f"{base}/{place}/{name}?token=course")
    kernel_is_idle(page)


def kernel_is_idle(page):
    page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext")
    page.wait_for_function("window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'")


def at(inside):
    return int(inside.get_attribute(".step-player", "data-at"))


def reaches(inside, place):
    """Wait until a step is shown: a frame gets its keys a little later than the page around it."""
    inside.wait_for_selector(f".step-player[data-at='{place}']", timeout=10_000)
    return True


def ink(inside, which=0):
    """All pixels of one canvas, as text."""
    return inside.evaluate(f"document.querySelectorAll('.step-player canvas')[{which}].toDataURL()")


def words(inside):
    return inside.inner_text(".words")


def drag(page, inside, selector, start, end):
    box = inside.locator(selector).bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 9 + (box["width"] - 18) * start, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 9 + (box["width"] - 18) * end, middle, steps=6)
    page.mouse.up()


def try_out(page, inside):
    """Press keys and drag the slider of a player: its pictures change, and its words follow."""
    slider = inside.locator(".slider")
    slider.focus()
    last, shown = int(slider.get_attribute("max")), []
    for key, place in {"End": last, "Home": 0, "ArrowRight": 1}.items():
        page.keyboard.press(key)
        assert reaches(inside, place)
        shown.append((words(inside), ink(inside)))
        assert slider.get_attribute("aria-valuetext") == "; ".join(words(inside).split("\n\n"))
    slider.scroll_into_view_if_needed()
    drag(page, inside, ".slider", 1 / last, 0.5)
    inside.wait_for_selector(".step-player:not([data-at='1'])", timeout=10_000)
    assert 0.3 * last < at(inside) < 0.7 * last
    shown.append((words(inside), ink(inside)))
    assert all(len(set(each)) == 4 for each in zip(*shown, strict=True))
