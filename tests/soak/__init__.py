"""An hour of a real daemon's life, with everything coming and going, to see whether anything grows: `make soak`.

scenario.py says what there is to watch, daemon.py is the daemon under observation, readings.py what can be read of
it from outside, world.py plays all of it, flat.py judges.
"""
