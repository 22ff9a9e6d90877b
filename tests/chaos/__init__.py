"""Is nothing lost? Real daemons are killed, again and again, between receivers that misbehave.

    campaigns   a pretend Ultravox whose batches live by chance, and remembers what became of them
    receivers   webhooks and an Alertmanager that are up, down, slow or broken, and remember what they took
    daemon      the process that is killed: `batch-monitor run`, with points at which it kills itself
    world       one round: all of these together, and kills
    truth       what had to be told, by the state file and by what the campaigns remember
    verdict     what was told of it: lost, out of order, twice

Truth and verdict are pure, know nothing of how the monitor decides, and read its state file as text.
"""
