"""`python -m monitor` is `batch-monitor`."""

from monitor.cli import main

main()
