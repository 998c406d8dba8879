"""The newest state is drawn, states in between are dropped, and the full picture follows."""

import threading
import time

from experiments.view.draw_thread import DrawThread

SOON = 10.0


class Stage:
    """A state to change, and what is drawn of it; drawing can be held up."""

    def __init__(self):
        self.state, self.painted, self.shown = 0, [], []
        self.may_paint, self.rested = threading.Event(), threading.Event()
        self.may_paint.set()

    def paint(self, state, moving):
        self.painted.append((state, moving))
        assert self.may_paint.wait(SOON)
        return state

    def show(self, picture, moving):
        self.shown.append((picture, moving))
        if not moving:
            self.rested.set()

    def painter(self, settle=0.01):
        return DrawThread(lambda: self.state, self.paint, self.show, settle=settle)

    def wait_until_painting(self, count):
        end = time.monotonic() + SOON
        while len(self.painted) < count:
            assert time.monotonic() < end
            time.sleep(0.001)


def test_a_rough_picture_comes_first_and_the_full_one_once_it_rests():
    stage = Stage()
    painter = stage.painter()
    assert stage.rested.wait(SOON)
    painter.close()
    assert stage.shown == [(0, True), (0, False)]


def test_states_that_were_overtaken_are_never_drawn():
    stage = Stage()
    stage.may_paint.clear()
    painter = stage.painter()
    stage.wait_until_painting(1)
    for stage.state in (1, 2, 3):
        painter.changed()
    stage.may_paint.set()
    assert stage.rested.wait(SOON)
    painter.close()
    assert stage.shown == [(0, True), (3, True), (3, False)]


def test_a_full_picture_of_the_past_is_not_shown():
    stage = Stage()
    painter = stage.painter()
    stage.wait_until_painting(1)
    assert stage.rested.wait(SOON)
    stage.rested.clear()
    painter.changed()
    stage.wait_until_painting(3)
    stage.may_paint.clear()
    stage.wait_until_painting(4)  # in the middle of the full one
    stage.state = 5
    painter.changed()
    stage.may_paint.set()
    assert stage.rested.wait(SOON)
    painter.close()
    assert stage.shown[-2:] == [(5, True), (5, False)]
    assert (0, False) not in stage.shown[2:]


def test_while_it_moves_only_rough_pictures_are_drawn():
    stage = Stage()
    painter = stage.painter(settle=SOON)
    for count in range(1, 4):
        stage.wait_until_painting(count)
        painter.changed()
    painter.close()  # at once: nothing waits for it to settle
    assert all(moving for _, moving in stage.painted)
