"""Kill -9 at every boundary of every store call: fault points, scenes, workers of three levels, a judge, two lanes.

`tests/acceptance/test_kill_points.py` is the only user. A case plants jobs, forks an operator (or a relay) that is
killed at a numbered point, lets another process recover (and now and then kills that one too), waits until the stores
agree, drains the queues and judges what happened.
"""
