"""Secrets are planted wherever a real daemon meets some, everything goes wrong, and all that it says is searched.

planted     the secrets, and how a text is searched for them: adding one is one line
world       a pretend Ultravox and receivers that give secrets away, the daemon between them, and its outputs
crashing    the daemon's process: it crashes in odd places, and, for tests of this test, hides worse than it should
"""
