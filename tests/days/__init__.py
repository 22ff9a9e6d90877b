"""Real daemons on bad days: daemon.py is one that can be troubled from inside, world.py runs it and looks at it."""
