"""What the monitor costs, as ratios against named things measured in the same run."""
