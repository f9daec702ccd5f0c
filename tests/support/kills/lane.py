"""A lane: one process that runs cases one after the other on stores of its own; `Lanes` drives two of them.

`python -m tests.support.kills.lane` reads the stores' URLs and then requests from stdin, a line of JSON each, and
answers each with a line. It has no threads while it forks.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from pydantic import SecretStr

from queuemon.config import Settings
from tests.support.kills.case import Case, Name, Usual, Verdict, warm
from tests.support.kills.controls import CONTROLS
from tests.support.kills.duties import DUTIES
from tests.support.kills.scene import Scene
from tests.support.kills.scenes import ACTIONS
from tests.support.kills.site import Site

SCENES: dict[str, Scene] = {scene.name: scene for scene in (*ACTIONS.values(), *DUTIES.values(), *CONTROLS.values())}

#: Kills at random moments for each variant, level and mode, beside those at every point.
RANDOM_KILLS = 8

_ROOT = Path(__file__).resolve().parents[3]


def main() -> None:
    """Serve requests until stdin ends."""
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever prints must not mix with the answers
    first = json.loads(sys.stdin.readline())
    settings = Settings(
        profile="test", database_url=SecretStr(first["database_url"]), redis_url=SecretStr(first["redis_url"])
    )
    site = Site(settings, Path(first["folder"]))
    warm(site)
    usual: dict[tuple[str, str, str], Usual] = {}
    for line in iter(sys.stdin.readline, ""):
        name = Name.of(json.loads(line))
        scene, group = SCENES[name.scene], (name.scene, name.variant, name.mode)
        if group not in usual:
            usual[group] = Case(site, scene, name).count()
        answer: Any = Case(site, scene, name).run(usual[group]).plain() if name.point else usual[group].points
        answers.write(json.dumps(answer) + "\n")


class Lanes:
    """Lanes side by side, each a process with its own stores."""

    def __init__(self, stores: Sequence[tuple[str, str]], folder: Path) -> None:
        """`stores`: (database URL, Redis URL) of each lane."""
        self._lanes = []
        for n, (database_url, redis_url) in enumerate(stores):
            own = folder / f"lane-{n}"
            own.mkdir(mode=0o711)
            log = (own / "log").open("wb")
            lane = subprocess.Popen(
                [sys.executable, "-m", "tests.support.kills.lane"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=_ROOT, text=True, bufsize=1,
            )  # fmt: skip
            log.close()
            self._lanes.append((lane, own / "log"))
            self._say(lane, {"database_url": database_url, "redis_url": redis_url, "folder": str(own)})

    def points(self, scene: Scene) -> list[Name]:
        """Every case of a scene: each point of each variant, level and mode, and some random moments."""
        counted = [
            Name(scene=scene.name, variant=variant, level=scene.levels[-1], mode=mode)
            for variant in scene.variants
            for mode in scene.modes
        ]
        found = dict(self._ask(counted))
        return [
            replace(name, level=level, point=point)
            for name in counted
            for level in scene.levels
            for point in [*found[name], *(f"random-{k}" for k in range(1, RANDOM_KILLS + 1))]
        ]

    def run(self, names: Sequence[Name]) -> Iterator[Verdict]:
        """The verdicts, as they come."""
        for _, answer in self._ask(names):
            yield Verdict(**answer)

    def _ask(self, names: Sequence[Name]) -> Iterator[tuple[Name, Any]]:
        waiting: SimpleQueue[Name] = SimpleQueue()
        answers: SimpleQueue[tuple[Name | None, Any]] = SimpleQueue()
        for name in names:
            waiting.put(name)

        def serve(lane: subprocess.Popen[str], log: Path) -> None:
            while True:
                try:
                    name = waiting.get_nowait()
                except Empty:
                    return
                self._say(lane, str(name))
                assert lane.stdout is not None
                line = lane.stdout.readline()
                if not line:
                    answers.put((None, f"{name}: the lane ended\n{log.read_text(errors='replace')[-4000:]}"))
                    return
                answers.put((name, json.loads(line)))

        threads = [threading.Thread(target=serve, args=lane, daemon=True) for lane in self._lanes]
        for thread in threads:
            thread.start()
        for _ in names:
            answered, answer = answers.get()
            if answered is None:
                raise AssertionError(answer)
            yield answered, answer

    @staticmethod
    def _say(lane: subprocess.Popen[str], what: Any) -> None:
        pipe: IO[str] | None = lane.stdin
        assert pipe is not None
        pipe.write(json.dumps(what) + "\n")
        pipe.flush()

    def close(self) -> None:
        """End them."""
        for lane, _ in self._lanes:
            lane.kill()
            lane.wait()
            for pipe in (lane.stdin, lane.stdout):
                if pipe is not None:
                    pipe.close()


if __name__ == "__main__":
    main()
